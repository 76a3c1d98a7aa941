"""Addresses of databases and servers: what kind they are, and which file, host and port they name.

Every place that reads an address asks here, so that one address means the same to all of them. Imports
nothing heavy.
"""

import urllib.parse
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.passwords import without_password

_IN_MEMORY = ("", ":memory:")


def is_server(address: str) -> bool:
    """Whether there are pages at `address`: else it is a database."""
    return address.startswith(("http://", "https://"))


def dialect_of(address: str) -> str:
    """Returns the kind of a database or server without its driver: `sqlite` of `sqlite+pysqlite:///a.db`."""
    scheme, colon, _ = address.partition("://")
    return scheme.partition("+")[0] if colon else ""


def is_sqlite(address: str) -> bool:
    """Whether an address is of a SQLite database, whatever the driver."""
    return dialect_of(address) == "sqlite"


def sqlite_file(address: str) -> Path | None:
    """Returns the file of a SQLite database; None for one in memory, and for the address of anything else.

    As SQLAlchemy reads it: three slashes begin a path of the working directory, four an absolute one.
    """
    if not is_sqlite(address):
        return None
    path = address.partition("://")[2].removeprefix("/").partition("?")[0].removeprefix("file:")
    return None if path in _IN_MEMORY else Path(path)


def with_whole_path(address: str) -> str:
    """Returns an address that means the same in any folder: a SQLite file by its absolute path."""
    file = sqlite_file(address)
    if file is None:
        return address
    scheme, _, rest = address.partition("://")
    prefix = "file:" if rest.startswith("/file:") else ""
    _, mark, query = rest.partition("?")
    return f"{scheme}:///{prefix}{file.resolve()}{mark}{query}"


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
