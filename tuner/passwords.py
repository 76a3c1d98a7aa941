"""Passwords in addresses: they are used, and neither shown nor written anywhere."""

import re
from collections.abc import Sequence

_IN_HTTP = re.compile(r"(?i)(https?://)[^/@\s]*@")
_IN_DATABASE = re.compile(r"([a-z][\w+.-]*://[^:/@\s]*):[^@\s]*@", re.IGNORECASE)
_IN_QUERY = re.compile(r"(?i)(?<=[?&])(?:ssl)?password=[^&\s]*&?")


def without_password(text: str) -> str:
    """Returns an address, or a flag with one, less the password in it; others come back as they are.

    What is left is still of use: PostgreSQL's client finds a password in PGPASSWORD or ~/.pgpass, MLflow's
    user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """
    if re.search(r"(?i)https?://", text):
        return _IN_HTTP.sub(r"\1", text)
    return _IN_QUERY.sub("", _IN_DATABASE.sub(r"\1@", text)).rstrip("?&")


def without_passwords(argv: Sequence[str]) -> list[str]:
    """Returns a command line less the passwords in it."""
    return [without_password(word) for word in argv]
