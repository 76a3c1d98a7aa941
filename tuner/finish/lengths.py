"""How long a chosen configuration trains: whole schedules of doubling length, until one is not better.

A learning rate follows the length of its schedule, so a short run is no beginning of a long one: each length
is trained from the start. All lengths together cost less than twice the epochs of the last one, and that is
at most twice the one that is kept, so less than four times the kept one.
"""

from collections.abc import Callable, Mapping

MOST_DOUBLINGS = 4
"""The longest schedule has 16 times the study's epochs."""


def lengths(first: int) -> list[int]:
    """Returns the lengths that may be tried, in epochs: `first`, those of the study's trials, and doubles."""
    return [first * 2**doublings for doublings in range(MOST_DOUBLINGS + 1)]


def try_lengths(
    first: int,
    train: Callable[[int], float | None],
    in_time: Callable[[int], bool] = lambda epochs: True,
) -> dict[int, float | None]:
    """Trains the `lengths` one after the other until a run is not better than the one before.

    Args:
        first: epochs of the study's trials.
        train: returns the study's metric on the validation images after a run of so many epochs; None if its
            loss diverged.
        in_time: whether a run of so many epochs may begin; the first is not asked about.

    Returns:
        The metric by length, in order.
    """
    tried: dict[int, float | None] = {}
    before: float | None = None
    for epochs in lengths(first):
        if tried and not in_time(epochs):
            break
        tried[epochs] = score = train(epochs)
        if score is None or (before is not None and score <= before):
            break
        before = score
    return tried


def best_length(tried: Mapping[int, float | None]) -> int | None:
    """Returns the length with the best metric, of equals the shortest; None if all diverged."""
    known = {epochs: score for epochs, score in tried.items() if score is not None}
    return max(known, key=lambda epochs: (known[epochs], -epochs), default=None)
