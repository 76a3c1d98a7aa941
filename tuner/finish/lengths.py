"""How long a chosen configuration trains: whole schedules of doubling length, until one is not better.

A learning rate follows the length of its schedule, so a short run is no beginning of a long one: each length
is trained from the start. All lengths together cost less than twice the epochs of the last one, and that is
at most twice the one that is kept, so less than four times the kept one.
"""

from collections.abc import Callable, Mapping

MOST_DOUBLINGS = 4
"""The longest schedule has 16 times the study's epochs."""


def try_lengths(first: int, train: Callable[[int], float | None]) -> dict[int, float | None]:
    """Trains `first` epochs, twice as many, and so on, until a run is not better than the one before.

    Args:
        first: epochs of the study's trials.
        train: returns the study's metric on the validation images after a run of so many epochs; None if its
            loss diverged.

    Returns:
        The metric by length, in order.
    """
    tried: dict[int, float | None] = {}
    before: float | None = None
    for doublings in range(MOST_DOUBLINGS + 1):
        epochs = first * 2**doublings
        tried[epochs] = score = train(epochs)
        if score is None or (before is not None and score <= before):
            break
        before = score
    return tried


def best_length(tried: Mapping[int, float | None]) -> int | None:
    """Returns the length with the best metric, of equals the shortest; None if all diverged."""
    known = {epochs: score for epochs, score in tried.items() if score is not None}
    return max(known, key=lambda epochs: (known[epochs], -epochs), default=None)
