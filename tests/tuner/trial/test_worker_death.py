"""Deaths of real processes under Ray Tune; what takes gigabytes is slow."""

import os
import pickle
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray import tune
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)
from ray.tune import FailureConfig, RunConfig
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from tuner.trial import worker_death
from tuner.trial.worker_death import (
    NodeLostError,
    WorkerDeath,
    WorkerKilledError,
    describe_death,
    every_death_counts,
    last_error,
    once_known,
)

ONE_KILLED = """\
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.2, ID: f35f) \
was 3.16GB used / 23.54GB limit (0.134050)
OOM kill reason: Memory usage 3387998208B exceeded threshold of 3303581696B (13.1% of 25276063744B limit)
Selected to kill: (Actor(8f098c1971389be3cbca1f9c01000000): job ID=01000000, task name=Eat.__init__, \
required resources={CPU_group_0_20554e: 1}, pid=15820, actual memory used=1.09GB, worker ID=98d4)
]
Top 10 memory users: PID	MEM(GB)	COMMAND
15820	1.09	ray::Eat.train"""
TWO_KILLED = ONE_KILLED.replace(
    "Selected to kill: (",
    "Selected to kill: (Actor(1111): job ID=01000000, pid=1, actual memory used=2.00GB, worker ID=2), (",
)
NODE_GONE = """\
The actor died unexpectedly before finishing this task.
\tclass_name: Eat
The actor died because its node has died. Node Id: 1264f1
\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"""

UNAVAILABLE = ActorUnavailableError("The actor is unavailable", b"1" * 16)
NODE_DIED = RayActorError(None, NODE_GONE)


@pytest.mark.parametrize(
    ("error", "need_mib", "held"),
    [
        (OutOfMemoryError(ONE_KILLED), 1.09 * 1024, " while it held 1,116 MiB"),
        (WorkerKilledError("1111", TWO_KILLED), 2048.0, " while it held 2,048 MiB"),
        (OutOfMemoryError(TWO_KILLED), None, ""),  # either
    ],
)
def test_the_memory_monitor_says_what_a_process_held(error, need_mib, held):
    death = describe_death(error)
    assert death.reason == (
        f"the host ran out of memory (3.16 of 23.54 GiB used): its process was stopped{held}"
    )
    assert (death.out_of_memory, death.need_mib) == (True, need_mib)


@pytest.mark.parametrize("kind", [WorkerKilledError, NodeLostError])
def test_a_node_that_is_gone_is_named(kind):
    death = describe_death(pickle.loads(pickle.dumps(kind("1", NODE_GONE))))
    assert death == WorkerDeath(
        reason="its node died or cannot be reached", out_of_memory=False, need_mib=None
    )


def test_ray_tune_does_not_count_the_death_of_a_node(monkeypatch):
    monkeypatch.setattr(Trial, "local_path", None)  # nothing is written
    trial = Trial("any", stub=True)
    trial.handle_error(NodeLostError("1", NODE_GONE))
    assert trial.run_metadata.num_failures == 0
    trial.handle_error(WorkerKilledError("1", "killed"))
    assert trial.run_metadata.num_failures == 1


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([UNAVAILABLE, UNAVAILABLE, NODE_DIED], NODE_DIED),
        ([UNAVAILABLE, True], UNAVAILABLE),
        ([GetTimeoutError()], UNAVAILABLE),
    ],
)
def test_what_cannot_be_reached_is_asked_until_ray_knows(answers, found, monkeypatch):
    waiting = list(answers)

    def get(ref, timeout):
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(worker_death.ray, "get", get)
    monkeypatch.setattr(worker_death.time, "sleep", lambda s: None)
    actor = SimpleNamespace(__ray_ready__=SimpleNamespace(remote=lambda: "a call"))
    assert once_known(actor, UNAVAILABLE) is found and waiting == []


def test_an_error_inside_a_trial_is_that_error():
    error = RayTaskError("train", "traceback", ValueError("bad\nsecond line"))
    assert describe_death(error).reason == "ValueError: bad"
    error = RayTaskError("train", "traceback", MemoryError("Unable to allocate 2.00 GiB"))
    death = describe_death(error)
    assert (death.out_of_memory, death.need_mib) == (True, 2048.0)


def test_a_killed_worker_keeps_its_message_on_the_way_through_a_file():
    error = pickle.loads(pickle.dumps(WorkerKilledError("1111", TWO_KILLED)))
    assert (error.actor_id, str(error)) == ("1111", TWO_KILLED)


class Dying(tune.Trainable):
    """Dies in the way that its configuration names."""

    def step(self):
        how = self.config["how"]
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            raise SystemExit(5)
        if how == "eat" and self.iteration > 0:
            kept = []
            while True:
                kept.append(b"1" * (100 * 2**20))
                time.sleep(0.05)
        return {"done": how == "fine", "x": 1}

    def save_checkpoint(self, checkpoint_dir):
        pass


class Listening(FIFOScheduler):
    def __init__(self):
        super().__init__()
        self.deaths = {}

    def on_trial_error(self, tune_controller, trial):
        self.deaths[trial.config["how"]] = describe_death(last_error(trial))
        super().on_trial_error(tune_controller, trial)


@pytest.fixture
def start_ray(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

    def start(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

    yield start
    ray.shutdown()


def deaths_of(ways, tmp_path) -> dict[str, WorkerDeath]:
    scheduler = Listening()
    with every_death_counts():
        results = tune.Tuner(
            Dying,
            param_space={"how": tune.grid_search(ways)},
            tune_config=tune.TuneConfig(scheduler=scheduler),
            run_config=RunConfig(
                name="dying",
                storage_path=str(tmp_path),
                failure_config=FailureConfig(max_failures=0),
                verbose=0,
            ),
        ).fit()
    assert len(results) == len(ways)  # Tune went on after each
    return scheduler.deaths


class DyingBetween(tune.Trainable):
    """Dies the first time that it has to continue with another trial."""

    def reset_config(self, new_config):
        died = Path(new_config["died"])
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    def step(self):
        return {"done": True, "x": self.config["x"]}

    def save_checkpoint(self, checkpoint_dir):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("max_failures", [0, 1])
def test_a_trial_whose_process_dies_before_it_begins_is_tried_again(start_ray, tmp_path, max_failures):
    start_ray()
    with every_death_counts():
        results = tune.Tuner(
            DyingBetween,
            param_space={"x": tune.grid_search([1, 2, 3]), "died": str(tmp_path / "died")},
            tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
            run_config=RunConfig(
                name="between",
                storage_path=str(tmp_path),
                failure_config=FailureConfig(max_failures=max_failures),
                verbose=0,
            ),
        ).fit()
    assert (tmp_path / "died").exists()
    reached = [result.metrics.get("x") for result in results if not result.error]
    assert reached == ([1, 2, 3] if max_failures else [1, 3])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_process_that_dies_is_told_to_the_scheduler(start_ray, tmp_path):
    start_ray()
    deaths = deaths_of(["kill", "exit", "fine"], tmp_path)
    assert {how: death.reason for how, death in deaths.items()} == {
        "kill": "its process was killed or crashed (dmesg shows whether the system ran out of memory)",
        "exit": "its process ended with exit code 5",
    }
    assert not any(death.out_of_memory for death in deaths.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_process_that_the_memory_monitor_kills_does_not_end_the_experiment(start_ray, tmp_path):
    rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {row[0]: int(row[1]) for row in rows}
    threshold = 1 - (kib["MemAvailable:"] - 2 * 2**20) / kib["MemTotal:"]
    assert threshold <= 0.9, "the memory monitor wants 2 GiB of free memory here"
    start_ray(RAY_memory_usage_threshold=f"{threshold:.4f}", RAY_memory_monitor_refresh_ms="100")
    deaths = deaths_of(["eat", "fine"], tmp_path)
    assert deaths["eat"].out_of_memory
    assert deaths["eat"].need_mib > 100
    assert "fine" not in deaths
