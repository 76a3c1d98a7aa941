"""Checks that the servers that a study names answer."""

import re
import socket

from tinytl.errors import ConfigError
from tinytl.passwords import without_password
from tuner.addresses import dialect_of, is_server, is_sqlite, place_of, sqlite_file
from tuner.config import WITHOUT_TRACKING, StudyConfig
from tuner.ports import check_free

SERVER_TIMEOUT_S = 5.0
HTTP_PORTS = {"http": 80, "https": 443}
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306}
TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")


def check_servers(config: StudyConfig) -> None:
    """Checks that the servers that a study names answer, and that the ports that it needs are free.

    Ray and MLflow wait minutes for a server that does not answer: a connection fails within seconds.

    Raises:
        ConfigError: naming the flag.
    """
    check_schemes(config)
    uri = config.tracking_uri if config.tracking_uri and config.tracks else ""
    if config.dashboard_port is not None:
        check_free(config.dashboard_port, "--dashboard-port")
    if config.storage is not None:
        check_file_database("--storage", config.storage)
        _, host, port = place_of("--storage", config.storage)
        port = port or DATABASE_PORTS.get(dialect_of(config.storage), 0)
        if host and port:
            check_answers(f"--storage: no database at {host}:{port}", host, port)
    if is_server(uri):
        scheme, host, port = place_of("--tracking-uri", uri)
        what = f"--tracking-uri {without_password(uri)}: no MLflow server"
        check_answers(what, host, port or HTTP_PORTS[scheme], f": {WITHOUT_TRACKING}")
    if config.address is not None and config.address != "auto":
        host, colon, port_text = config.address.removeprefix("ray://").rpartition(":")
        if not colon or not re.fullmatch("[0-9]{1,5}", port_text) or int(port_text) > 65535:
            raise ConfigError(f"--address {config.address}: write HOST:PORT, such as 127.0.0.1:6379")
        check_answers(f"--address {config.address}: no Ray cluster", host, int(port_text))


def check_file_database(flag: str, address: str) -> None:
    """Raises ConfigError if a SQLite database's folder is missing; other databases have none."""
    file = sqlite_file(address)
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError(f"{flag} {address}: no folder {file.absolute().parent}")


def check_schemes(config: StudyConfig) -> None:
    """Checks that the addresses that a study names are valid, whether or not they answer from here.

    Raises:
        ConfigError: naming the flag.
    """
    uri = config.tracking_uri if config.tracking_uri and config.tracks else ""
    if uri and dialect_of(uri) not in TRACKING_SCHEMES:
        raise ConfigError(
            f"--tracking-uri {without_password(uri)}: write an address that begins with one of "
            f"{', '.join(TRACKING_SCHEMES)}, such as http://127.0.0.1:5000; {WITHOUT_TRACKING}"
        )
    for flag, address in (("--tracking-uri", uri), ("--storage", config.storage or "")):
        if is_sqlite(address) and sqlite_file(address) is None:
            raise ConfigError(
                f"{flag} {address}: a database in memory ends with its process: name a file, such as "
                "sqlite:////FOLDER/study.db"
            )
    if config.storage is not None and "://" not in config.storage:
        raise ConfigError(
            f"--storage {config.storage}: write a database's URL, such as sqlite:////FOLDER/study.db or "
            "postgresql+psycopg://USER@HOST/DATABASE"
        )


def check_answers(what: str, host: str, port: int, then: str = "") -> None:
    """Raises ConfigError, saying that `what` does not answer, and `then`, if nothing listens at a port."""
    try:
        socket.create_connection((host, port), timeout=SERVER_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"{what} answers there ({error.strerror or error}){then}") from None
