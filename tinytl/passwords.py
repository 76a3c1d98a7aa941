"""Passwords and signatures in addresses: they are used, but neither shown nor written anywhere."""

import re
from collections.abc import Sequence

_ADDRESS = re.compile(r"([A-Za-z][\w+.-]*://)(\S+)")
_SECRET = re.compile(
    r"(?i).*(passw|pwd|passphrase|token(?!iz)|secret|signature|credential|authorization|bearer|api[-_]?key|"
    r"access[-_]?key).*|sig|auth|pass|pw|jwt|odbc_connect"
)
"""Names of a query's parameters that hold a secret."""
_SIGNATURE = re.compile(r"(?i).*signature|sig")
_OF_SIGNATURE = re.compile(
    r"(?i)x-(amz|goog)-.*|expires|policy|key-pair-id|googleaccessid|awsaccesskeyid|s[vrpet]|ss|srt|spr|sk[a-z]+"
)
"""Names of what Amazon's, Google's and Microsoft's stores write beside a signature: another for each use."""
_IPV6 = re.compile(r"^\[[^\]]*\]")
_PORT_OF_PAGE = re.compile(r"\d*([/?#]|$)")
_PORT_OF_DATABASE = re.compile(r"\d*(/[^?@]*)?(\?|$)")

_whole: dict[str, str] = {}


def without_password(text: str) -> str:
    """Returns a text without the passwords and signatures of the addresses in it; else as it is.

    What is left is still of use: PostgreSQL's client finds a password in PGPASSWORD or ~/.pgpass, MLflow's
    user and password in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """
    return _ADDRESS.sub(lambda found: found[1] + _without_secrets(found[1].lower(), found[2]), text)


def without_passwords(argv: Sequence[str]) -> list[str]:
    """Returns a command line without the passwords in it."""
    return [without_password(word) for word in argv]


def set_apart(address: str) -> str:
    """Returns `address` without secrets; `whole` gives it back in this process, so that it can be used.

    So what holds addresses (configurations, records, checkpoints) need not know which of them are secret.
    """
    shown = without_password(address)
    if shown != address:
        _whole[shown] = address
    return shown


def whole(address: str) -> str:
    """Returns the address that was last set apart as `address`, or itself."""
    return _whole.get(address, address)


def _without_secrets(scheme: str, rest: str) -> str:
    user, place = _split(scheme, rest)
    if user and not scheme.startswith("http"):  # of an http address the user alone may be the secret
        place = f"{user.partition(':')[0]}@{place}"
    path, mark, query = place.partition("?")
    if not mark:
        return place
    parts = re.split("[&;]", query)
    names = [part.partition("=")[0] for part in parts]
    signed = any(_SIGNATURE.fullmatch(name) for name in names)
    kept = [
        part
        for part, name in zip(parts, names, strict=True)
        if not _SECRET.fullmatch(name) and not (signed and _OF_SIGNATURE.fullmatch(name))
    ]
    if len(kept) == len(parts):
        return place
    return f"{path}?{'&'.join(kept)}" if kept else path


def _split(scheme: str, rest: str) -> tuple[str, str]:
    """Returns the user, with a password, and the rest of an address.

    A password should hold neither a slash nor a question mark, but does: what follows a colon is a password
    unless it is a port.
    """
    is_page = scheme.startswith("http")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        # The path of a page may hold an @, that of a database has no need to.
        place = authority if is_page else rest.partition("?")[0]
    else:
        host = _IPV6.sub("", authority)
        after = rest[len(authority) - len(host) :].partition(":")[2]
        port = _PORT_OF_PAGE if is_page else _PORT_OF_DATABASE
        if ":" not in host or port.match(after) or "@" not in after:
            return "", rest
        place = rest
    user, _, _ = place.rpartition("@")
    return user, rest[len(user) + 1 :]
