import pytest

from benchmarks.search.simulated import History, Row, Table, hypervolume, simulate
from benchmarks.search.table import row_key


def row(x: int, accuracies: tuple[float, ...], memory_mib: float) -> Row:
    return Row(values={"x": x}, accuracies=accuracies, memory_mib=memory_mib)


def table(*rows: Row) -> Table:
    return Table({row_key(r.values): r for r in rows})


THREE = table(row(0, (0.1, 0.5), 10.0), row(1, (0.2, 0.9), 20.0), row(2, (0.3, 0.4), 30.0))


class InOrder:
    """Tries the rows in order and stops those named; keeps what it heard."""

    def __init__(self, count: int, stopped: tuple[int, ...] = ()) -> None:
        self.left = list(range(count))
        self.stopped = stopped
        self.heard: list[tuple[object, ...]] = []

    def next_trial(self):
        if not self.left:
            return None
        x = self.left.pop(0)
        self.heard.append(("started", x))
        return x, {"x": x}

    def goes_on(self, trial, epoch, accuracy, memory_mib):
        self.heard.append((trial, epoch, accuracy))
        return trial not in self.stopped

    def finished(self, trial, accuracy, memory_mib):
        self.heard.append((trial, accuracy, memory_mib))


def test_hypervolume_is_the_area_of_the_front():
    assert hypervolume([(0.5, 10.0), (0.9, 20.0)], 30.0) == pytest.approx(0.5 * 20 + 0.4 * 10)
    assert hypervolume([(0.9, 20.0), (0.5, 10.0), (0.5, 20.0)], 30.0) == pytest.approx(
        14
    )  # dominated: nothing
    assert hypervolume([(1.0, 30.0), (1.0, 31.0)], 30.0) == 0  # at the reference point, and beyond
    assert hypervolume([], 30.0) == 0
    assert THREE.hypervolume == pytest.approx(14)


def test_epochs_are_counted_and_partial_trials_do_not_count_for_the_front():
    search = InOrder(3, stopped=(1,))
    history = simulate(search, THREE, workers=1, epochs=100)
    assert (history.epochs, history.started, history.complete) == (5, 3, 2)  # the stopped trial cost one
    assert history.steps == ((2, pytest.approx(10)),)
    assert history.at(1) == 0
    assert history.at(2) == history.at(99) == pytest.approx(10)


def test_two_workers_take_turns_and_a_free_one_asks_at_once():
    search = InOrder(3)
    simulate(search, THREE, workers=2, epochs=100)
    assert search.heard == [
        ("started", 0),
        ("started", 1),
        (0, 1, 0.1),
        (1, 1, 0.2),
        (0, 0.5, 10.0),
        ("started", 2),
        (1, 0.9, 20.0),
        (2, 1, 0.3),
        (2, 0.4, 30.0),
    ]


def test_the_budget_ends_a_search_in_the_middle_of_a_trial():
    assert simulate(InOrder(3), THREE, workers=1, epochs=3).complete == 1
    limited = simulate(InOrder(3), THREE, workers=2, epochs=100, trials=2)
    assert (limited.epochs, limited.started, limited.complete) == (4, 2, 2)


def test_epochs_to_a_goal():
    history = History(((2, 10.0), (4, 14.0)), epochs=6, started=3, complete=3)
    assert history.epochs_to(10.0) == 2
    assert history.epochs_to(10.1) == 4
    assert history.epochs_to(14.0 + 1e-13) == 4  # rounding of a sum
    assert history.epochs_to(14.1) is None
