"""Numbers that count how often they are compared: what grows with a study is seen without a clock."""


class Counted(float):
    """A float; every comparison of one counts, also those of `min`, `max`, `sorted` and `bisect`."""

    comparisons = 0

    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) < float(other)

    def __gt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) > float(other)

    def __le__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) <= float(other)

    def __ge__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float(self) >= float(other)


def comparisons_of(call) -> int:
    """Returns how many comparisons of `Counted` a call makes."""
    Counted.comparisons = 0
    call()
    return Counted.comparisons
