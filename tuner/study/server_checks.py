"""Servers that a study names: do they answer?"""

import socket
import urllib.parse

from tinytl.errors import ConfigError
from tuner.config import WITHOUT_TRACKING, StudyConfig
from tuner.passwords import without_password
from tuner.ports import check_free
from tuner.record.sqlite_file import sqlite_file

SERVER_TIMEOUT_S = 5.0
HTTP_PORTS = {"http": 80, "https": 443}
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306}
TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


def check_servers(config: StudyConfig) -> None:
    """Sees that servers which a study names answer, and that ports which it wants are free.

    Ray and MLflow wait for minutes for a server that is not there: a connection tells in seconds.

    Raises:
        ConfigError: naming the flag.
    """
    check_schemes(config)
    uri = config.tracking_uri if config.tracking_uri and config.tracks else ""
    if config.dashboard_port is not None:
        check_free(config.dashboard_port, "--dashboard-port")
    if config.storage is not None:
        check_file_database("--storage", config.storage)
        scheme, host, port = place_of("--storage", config.storage)
        port = port or DATABASE_PORTS.get(scheme.partition("+")[0], 0)
        if host and port:
            check_answers(f"--storage: no database at {host}:{port}", host, port)
    if uri.startswith(("http://", "https://")):
        scheme, host, port = place_of("--tracking-uri", uri)
        what = f"--tracking-uri {without_password(uri)}: no MLflow server"
        check_answers(what, host, port or HTTP_PORTS[scheme], f": {WITHOUT_TRACKING}")
    if config.address is not None and config.address != "auto":
        host, colon, port_text = config.address.removeprefix("ray://").rpartition(":")
        if not colon or not port_text.isdigit():
            raise ConfigError(f"--address {config.address}: write HOST:PORT, such as 127.0.0.1:6379")
        check_answers(f"--address {config.address}: no Ray cluster", host, int(port_text))


def check_file_database(flag: str, address: str) -> None:
    """Raises ConfigError where a SQLite database's folder is missing; other databases have none."""
    file = sqlite_file(address)
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError(f"{flag} {address}: no folder {file.absolute().parent}")


def check_schemes(config: StudyConfig) -> None:
    """Sees that addresses which a study names are some, whether or not they can be had from here.

    Raises:
        ConfigError: naming the flag.
    """
    uri = config.tracking_uri if config.tracking_uri and config.tracks else ""
    if uri and uri.partition("://")[0].partition("+")[0] not in TRACKING_SCHEMES:
        raise ConfigError(
            f"--tracking-uri {without_password(uri)}: write an address that begins with one of "
            f"{', '.join(TRACKING_SCHEMES)}, such as http://127.0.0.1:5000; {WITHOUT_TRACKING}"
        )
    if config.storage is not None and "://" not in config.storage:
        raise ConfigError(
            f"--storage {config.storage}: write a database's URL, such as sqlite:////FOLDER/study.db or "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )


def place_of(flag: str, address: str) -> tuple[str, str, int | None]:
    """Returns scheme, host and port of an address; "" and None for what it does not name.

    Raises:
        ConfigError: naming the flag, for an address that cannot be read.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        return parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(
            f"{flag} {without_password(address)}: write SCHEME://HOST:PORT, a port from 0 to 65535 (in a "
            "password, / is %2F and @ is %40)"
        ) from None


def check_answers(what: str, host: str, port: int, then: str = "") -> None:
    """Raises ConfigError, saying that `what` does not answer, and `then`, where nothing listens at a port."""
    try:
        socket.create_connection((host, port), timeout=SERVER_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"{what} answers there ({error.strerror or error}){then}") from None
