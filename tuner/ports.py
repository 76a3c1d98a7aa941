"""Ports of this machine's loopback that a command will listen at."""

import socket

from tinytl.errors import ConfigError

HOST = "127.0.0.1"


def check_port(port: int, flag: str) -> None:
    """Raises ConfigError for a number that is not a port."""
    if not 0 < port < 2**16:
        raise ConfigError(f"{flag} {port}: a port is a number from 1 to 65535")


def check_free(port: int, flag: str) -> None:
    """Raises ConfigError, which names the flag, if nothing can listen at the port."""
    with socket.socket() as probe:
        # A server that has just ended still holds its connections: that is no reason to refuse.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"{flag} {port}: nothing can listen at {HOST}:{port} ({error.strerror}): give another port"
            ) from None
