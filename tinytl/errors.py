"""The ways in which a run can end that are not bugs."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class ConfigError(ValueError):
    """A user's mistake: one line that says what is wrong, where, and what to do."""


def in_one_line(error: Exception) -> str:
    """Returns what an error says, line breaks and other controls in names of files as escapes."""
    return without_controls(str(error))


def without_controls(text: str) -> str:
    """Returns text with line breaks and other controls as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error, and those that led to it."""
    inner: BaseException | None = error
    while inner is not None:
        yield inner
        inner = inner.__cause__ or inner.__context__


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite: the learning rate was too high for this configuration."""


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Runs imports of packages that `pip install tinytl-tuner` installs only with an extra.

    Raises:
        ConfigError: naming what needs the package, the package, and the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or extra).partition(".")[0]
        raise ConfigError(
            f"{what} needs the package {package}: pip install 'tinytl-tuner[{extra}]'"
        ) from None


def choose(kind: str, value: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Returns the name among `known` that `value` means, without regard to case.

    `cutoff`: similarity from which a name is suggested, 0 to 1.

    Raises:
        ConfigError: naming `kind`, the value, the nearest known name and all known ones.
    """
    names = list(known)
    found = {name.lower(): name for name in names}.get(str(value).lower())
    if found is not None:
        return found
    near = nearest(str(value), names, cutoff)
    hint = f"did you mean {near!r}? " if near else ""
    raise ConfigError(f"unknown {kind} {value!r}: {hint}known: {', '.join(names)}")


def nearest(value: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Returns the known name most similar to `value`, without regard to case, or None if none is similar."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(value.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[near[0]] if near else None
