"""Passwords in addresses: they are used, but neither shown nor written anywhere."""

import re
from collections.abc import Sequence

# A password may hold a slash, though it should not: what follows a colon is a password unless it is a port.
_IN_HTTP = re.compile(r"(?i)(https?://)(?:[^/:@\s]*:(?!\d+/)[^@\s]*|[^/@\s]*)@")
_IN_DATABASE = re.compile(r"(?<![\w+.-])(?!https?:)([a-z][\w+.-]*://[^:/@\s]*):\S*@", re.IGNORECASE)
_IN_QUERY = re.compile(r"(?i)(?<=[?&])(?:ssl)?password=[^&\s]*&?")


def without_password(text: str) -> str:
    """Returns a text without the passwords of the addresses in it; a text without any stays as it is.

    What is left is still of use: PostgreSQL's client finds a password in PGPASSWORD or ~/.pgpass, MLflow's
    user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """
    found = _IN_DATABASE.sub(r"\1@", _IN_HTTP.sub(r"\1", text))
    without = _IN_QUERY.sub("", found)
    return found if without == found else without.rstrip("?&")


def without_passwords(argv: Sequence[str]) -> list[str]:
    """Returns a command line without the passwords in it."""
    return [without_password(word) for word in argv]
