import pickle
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from tests.support.counted import Counted, comparisons_of
from tuner.record import trials
from tuner.search.scheduler import Rungs, StudyScheduler
from tuner.stopping import Stopping
from tuner.trial.trainable import GAVE_UP


def judged(rule, reached, past=()):
    """Whether each of (accuracy, memory) continues at rung 1, in the order of arrival."""
    rungs = Rungs(rule=rule, epochs=(1, 3), reduction_factor=3, past=past)
    return [rungs.goes_on(f"t{i}", 1, accuracy, memory) for i, (accuracy, memory) in enumerate(reached)]


@pytest.mark.parametrize(
    ("rule", "reached", "expected"),
    [
        # Nothing to compare with: the first continues.
        ("pareto", [(0.1, 50)], [True]),
        ("asha", [(0.1, 50)], [True]),
        # Less accurate in more memory is beaten; in less memory it is not.
        ("pareto", [(0.5, 50), (0.4, 60), (0.4, 40)], [True, False, True]),
        # Equal in one and worse in the other is beaten; equal in both is not.
        ("pareto", [(0.5, 50), (0.5, 60), (0.4, 50), (0.5, 50)], [True, False, False, True]),
        # Accuracy alone: the best third, rounded up, whatever the memory.
        ("asha", [(0.5, 50), (0.4, 10), (0.6, 90), (0.55, 50), (0.1, 1)], [True, False, True, True, False]),
        # The same memory for all: a third continues, not the best alone.
        ("pareto", [(0.5, 50), (0.6, 50), (0.7, 50), (0.65, 50)], [True, True, True, True]),
        ("pareto", [(0.5, 50), (0.6, 50), (0.4, 50)], [True, True, False]),
    ],
)
def test_who_goes_on(rule, reached, expected):
    assert judged(rule, reached) == expected


def test_rungs_are_apart_and_only_their_epochs_count():
    rungs = Rungs(rule="pareto", epochs=(1, 3), reduction_factor=3)
    assert [epoch in rungs for epoch in (1, 2, 3, 4)] == [True, False, True, False]
    assert rungs.goes_on("a", 1, 0.9, 10)
    assert rungs.goes_on("b", 3, 0.1, 90)


def test_records_of_an_earlier_call_are_judged_against():
    past = [
        trials.Trial(name="early", params={}, rungs={1: 0.9, 2: 0.95}, peak_memory_mib=10.0),
        trials.Trial(name="other", params={}, rungs={3: 0.99}, peak_memory_mib=1.0),
    ]
    assert judged("pareto", [(0.8, 20)], past) == [False]
    assert judged("pareto", [(0.8, 5)], past) == [True]


def test_a_trial_that_is_judged_again_does_not_beat_itself():
    rungs = Rungs(rule="pareto", epochs=(1,), reduction_factor=3)
    assert rungs.goes_on("a", 1, 0.5, 10)
    assert rungs.goes_on("a", 1, 0.4, 10)


@pytest.mark.parametrize("rule", ["asha", "pareto"])
def test_a_judgement_does_not_look_at_all_trials_of_the_rung(rule):
    rungs = Rungs(rule=rule, epochs=(1,), reduction_factor=3)
    draw = random.Random(0)
    reached = [(Counted(draw.random()), Counted(draw.choice((10, 20, 30, 40)))) for _ in range(2000)]
    for index, (accuracy, memory) in enumerate(reached[:-1]):
        rungs.goes_on(f"t{index}", 1, accuracy, memory)
    assert 0 < comparisons_of(lambda: rungs.goes_on("last", 1, *reached[-1])) < 60


@pytest.mark.parametrize("rule", ["asha", "pareto"])
def test_judgements_are_those_of_a_look_at_all_trials(rule):
    draw = random.Random(1)
    rungs, reached = Rungs(rule=rule, epochs=(1,), reduction_factor=3), {}
    for _ in range(400):
        name, point = f"t{draw.randrange(300)}", (draw.randrange(40) / 40, draw.randrange(1, 8))
        reached[name] = point
        if rule == "asha" or len({memory for _, memory in reached.values()}) == 1:
            expected = sum(a > point[0] for a, _ in reached.values()) < -(-len(reached) // 3)
        else:
            beaten = (a >= point[0] and m <= point[1] and (a, m) != point for a, m in reached.values())
            expected = not any(beaten)
        assert rungs.goes_on(name, 1, *point) == expected


class Search:
    """Records what the scheduler decides."""

    def __init__(self):
        self.deaths, self.rungs = [], []

    def worker_died(self, trial_id, death):
        self.deaths.append((trial_id, death.out_of_memory))

    def passed_rung(self, trial_id, epoch, accuracy, goes_on):
        self.rungs.append((trial_id, epoch, accuracy, goes_on))


class Trial(SimpleNamespace):
    def set_config(self, config):
        self.config = config


def trial(trial_id, tmp_path=None, error=None):
    path = None
    if error is not None:
        path = str(tmp_path / "error.pkl")
        Path(path).write_bytes(pickle.dumps(error))
    return Trial(trial_id=trial_id, config={"name": trial_id}, pickled_error_file=path)


class Waits:
    """Keeps what trials were seen to wait for."""

    def __init__(self):
        self.seen = []

    def look(self, needs):
        self.seen.append(needs)


def make_scheduler(search=None, rungs=None, time_budget_s=None):
    return StudyScheduler(search or Search(), rungs, Stopping(time_budget_s), Waits(), workers=2)


class Controller:
    """What the scheduler asks of Ray's controller, and of what it wraps; no process has been started."""

    def __init__(self, **statuses):
        needs = SimpleNamespace(required_resources={"CPU": 1.0})
        self.trials = [
            SimpleNamespace(trial_id=name, status=status, placement_group_factory=needs)
            for name, status in statuses.items()
        ]
        self.completed = []
        self.search_alg = SimpleNamespace(on_trial_complete=self.completed.append)
        self._tune_controller = self
        self._actor_manager = SimpleNamespace(num_live_actors=0)

    def get_trials(self):
        return self.trials

    def _schedule_trial_stop(self, trial):
        trial.status = "TERMINATED"


def test_a_study_that_stops_ends_the_trials_that_wait_and_no_other():
    controller = Controller(a="RUNNING", b="PENDING", c="PAUSED", d="ERROR")
    scheduler = make_scheduler(time_budget_s=0.0)
    assert scheduler.choose_trial_to_run(controller) is None
    assert [t.status for t in controller.trials] == ["RUNNING", "TERMINATED", "TERMINATED", "ERROR"]
    assert controller.completed == ["b", "c"], "the search is told of each"


def test_a_trial_waits_for_resources_where_no_process_has_been_given_any():
    controller = Controller(a="TERMINATED", b="PENDING")
    scheduler = make_scheduler()
    assert scheduler.choose_trial_to_run(controller).trial_id == "b"
    controller._actor_manager.num_live_actors = 1  # its process starts, or another trial runs
    assert scheduler.choose_trial_to_run(controller).trial_id == "b"
    assert scheduler.choose_trial_to_run(Controller(a="TERMINATED")) is None
    assert scheduler.waiting.seen == [{"CPU": 1.0}, None, None]


def result(epoch, accuracy, memory_mib=10.0):
    return {"epoch": epoch, "score": accuracy, "peak_memory_mib": memory_mib}


def test_a_trial_that_another_beats_is_stopped_at_the_rung_and_the_search_is_told():
    search = Search()
    scheduler = make_scheduler(search, Rungs(rule="pareto", epochs=(2,), reduction_factor=3))
    verdicts = [
        scheduler.on_trial_result(None, trial("a"), result(1, 0.1)),
        scheduler.on_trial_result(None, trial("a"), result(2, 0.5)),
        scheduler.on_trial_result(None, trial("b"), result(2, 0.4, 11.0)),
    ]
    assert verdicts == ["CONTINUE", "CONTINUE", "STOP"]
    assert search.rungs == [("a", 2, 0.5, True), ("b", 2, 0.4, False)]


def test_a_study_that_stops_lets_nobody_go_on():
    scheduler = make_scheduler(time_budget_s=0.0)
    assert scheduler.on_trial_result(None, trial("a"), result(1, 0.1)) == "STOP"


def test_a_process_that_ran_out_of_memory_is_not_tried_again(tmp_path):
    search = Search()
    dead = trial("a", tmp_path, OutOfMemoryError("killed due to the node running low on memory"))
    make_scheduler(search).on_trial_error(None, dead)
    assert search.deaths == [("a", True)]
    assert dead.config[GAVE_UP]["out_of_memory"] and dead.config["name"] == "a"


@pytest.mark.parametrize(("held_gib", "tried_again"), [(11.7, True), (11.8, False)])
def test_a_process_that_others_pushed_out_is_tried_again(held_gib, tried_again, tmp_path):
    killed = (
        "1 worker(s) were killed due to the node running low on memory. Memory on the node was 22.9GB used / "
        f"23.5GB limit (0.97) Selected to kill: (Actor(8f): pid=1, actual memory used={held_gib}GB)"
    )
    search, dead = Search(), trial("a", tmp_path, OutOfMemoryError(killed))
    make_scheduler(search).on_trial_error(None, dead)
    assert search.deaths == [("a", True)]  # with no chance left it is still no failure of the trial's
    assert (GAVE_UP not in dead.config) is tried_again


def test_a_node_that_died_leaves_its_trial_to_be_tried_again(tmp_path):
    dead = trial("a", tmp_path, RayActorError(None, "The actor died because its node has died."))
    scheduler = make_scheduler()
    scheduler.on_trial_error(None, dead)
    assert GAVE_UP not in dead.config
    scheduler.on_trial_error(None, trial("b"))  # died before it had an error to tell
