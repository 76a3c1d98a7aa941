"""Addresses of SQLite databases: which file they name."""

from pathlib import Path

SQLITE = "sqlite:///"


def sqlite_file(address: str) -> Path | None:
    """Returns the file of a SQLite database, None for the address of anything else."""
    if not address.startswith(SQLITE):
        return None
    return Path(address.removeprefix(SQLITE).partition("?")[0])
