"""Servers that a study names: do they answer?"""

import socket
import urllib.parse

from tinytl.errors import ConfigError
from tuner.config import WITHOUT_TRACKING, StudyConfig
from tuner.passwords import without_password
from tuner.ports import check_free

SERVER_TIMEOUT_S = 5.0
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306}
TRACKING_SCHEMES = ("", "http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


def check_servers(config: StudyConfig) -> None:
    """Sees that servers which a study names answer, and that ports which it wants are free.

    Ray and MLflow wait for minutes for a server that is not there: a connection tells in seconds.

    Raises:
        ConfigError: naming the flag.
    """
    uri = config.tracking_uri or ""
    scheme = uri.partition("://")[0] if "://" in uri else ""
    if scheme.partition("+")[0] not in TRACKING_SCHEMES:
        known = ", ".join(filter(None, TRACKING_SCHEMES))
        raise ConfigError(
            f"--tracking-uri {without_password(uri)}: unknown scheme {scheme!r}: known: {known}"
        )
    if config.dashboard_port is not None:
        check_free(config.dashboard_port, "--dashboard-port")
    if config.storage is not None:
        storage_parts = urllib.parse.urlsplit(config.storage)
        if storage_parts.hostname is not None:
            port = storage_parts.port or DATABASE_PORTS.get(storage_parts.scheme.partition("+")[0], 0)
            if port:
                place = f"{storage_parts.hostname}:{port}"
                check_answers(f"--storage: no database at {place}", storage_parts.hostname, port)
    if uri.startswith(("http://", "https://")):
        parts = urllib.parse.urlsplit(uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        what = f"--tracking-uri {without_password(uri)}: no MLflow server"
        check_answers(what, parts.hostname or "", port, f": {WITHOUT_TRACKING}")
    if config.address is not None and config.address != "auto":
        host, colon, port_text = config.address.removeprefix("ray://").rpartition(":")
        if not colon or not port_text.isdigit():
            raise ConfigError(f"--address {config.address}: write HOST:PORT, such as 127.0.0.1:6379")
        check_answers(f"--address {config.address}: no Ray cluster", host, int(port_text))


def check_answers(what: str, host: str, port: int, then: str = "") -> None:
    """Raises ConfigError, saying that `what` does not answer, and `then`, where nothing listens at a port."""
    try:
        socket.create_connection((host, port), timeout=SERVER_TIMEOUT_S).close()
    except OSError as error:
        raise ConfigError(f"{what} answers there ({error.strerror or error}){then}") from None
