"""Numbers with their nouns and units, in messages. Imports nothing."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun, such as `1 epoch` and `1,200 epochs`.

    `plural`: the noun of all numbers but 1, if that is not `noun` with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def rough_span(seconds: float) -> str:
    """Returns an estimated span of time as exactly as it can be known: two digits or so."""
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
