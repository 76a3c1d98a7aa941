"""Numbers with their nouns, in messages. Imports nothing."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with its noun, such as `1 epoch` and `1,200 epochs`.

    `plural`: the noun of all numbers but 1, if that is not `noun` with an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
