"""How a trial's process died, in one line, from what Ray raises in the driver."""

import math
import pickle
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.air.execution._internal import RayActorManager
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial

from tinytl.memory.out_of_memory import is_out_of_memory, tried_mib

KNOWN_WITHIN_S = 30.0
"""Ray counts a node as dead after five checks, 3 s apart. Until then its processes cannot be reached."""

_LOW_ON_MEMORY = "killed due to the node running low on memory"
_NODE_DIED = "its node has died"
_EXIT_CODE = re.compile(r"exits with an exit code (\d+)")
_ON_NODE = re.compile(r"was ([\d.]+)GB used / ([\d.]+)GB limit")
_KILLED = re.compile(r"Actor\((?P<actor>[0-9a-f]+)\).*?actual memory used=(?P<gib>[\d.]+)GB", re.DOTALL)
"""Matches the actors that Ray's memory monitor killed. What it calls GB are GiB."""


@dataclass(frozen=True, kw_only=True)
class WorkerDeath:
    """Why a trial's process, or a call to it, failed."""

    reason: str
    """One line for people."""
    out_of_memory: bool
    """Whether memory ran out for sure. The kernel's own killer leaves no word: such a death says killed."""
    need_mib: float | None
    """Out of host memory: what the process held when it was stopped, in MiB: it needs at least this."""
    host_mib: float = math.nan
    """Out of host memory: all that the host may use, in MiB; NaN if it is not known."""

    def is_its_own(self, workers: int) -> bool:
        """Whether the trial itself ran out of memory.

        Ray's memory monitor stops a worker if the host is full, whoever filled it. One of `workers` that held
        less than an even share of the host was pushed out by others, and has a chance another time.
        """
        pushed_out = self.need_mib is not None and self.need_mib < self.host_mib / workers
        return self.out_of_memory and not pushed_out


class WorkerKilledError(RayActorError):
    """An actor that Ray killed or lost without a RayActorError, the only such error that Ray Tune knows."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.actor_id, self.error_msg)


class NodeLostError(WorkerKilledError):
    """An actor that died with its node. Ray Tune does not count it as a failure of the trial."""

    preempted = True


def describe_death(error: BaseException) -> WorkerDeath:
    """Returns what Ray's exception means: the death of an actor or a node, or an error inside a trial."""
    text = str(error)
    if isinstance(error, RayTaskError):
        return _of_a_call(error.cause if isinstance(error.cause, BaseException) else error)
    if isinstance(error, OutOfMemoryError) or _LOW_ON_MEMORY in text:
        return _of_the_memory_monitor(text, getattr(error, "actor_id", None))
    taken = getattr(error, "preempted", False) and not isinstance(error, NodeLostError)
    if isinstance(error, (NodeDiedError, NodeLostError)) or _NODE_DIED in text or taken:
        reason = "its node was taken back (preempted)" if taken else "its node died or cannot be reached"
        return WorkerDeath(reason=reason, out_of_memory=False, need_mib=None)
    if getattr(error, "actor_init_failed", False):
        reason = f"its process could not start: {_last_line(text)}"
    elif (code := _EXIT_CODE.search(text)) is not None:
        reason = f"its process ended with exit code {code[1]}"
    elif "worker process has died" in text or "worker died" in text:
        reason = "its process was killed or crashed (dmesg shows whether the system ran out of memory)"
    elif "is unavailable" in text:
        reason = "its process cannot be reached"
    elif "ray.kill" in text:
        reason = "its process was killed through Ray"
    else:
        reason = _first_line(text) or type(error).__name__
    return WorkerDeath(reason=reason, out_of_memory=False, need_mib=None)


def last_error(trial: Any) -> BaseException | None:
    """Returns what a Tune trial died of: for `on_trial_error` and `on_trial_recover`.

    Tune's own `trial.get_pickled_error()` reads a copy that is not written yet: it gives the error before.
    """
    path = trial.pickled_error_file
    return pickle.loads(Path(path).read_bytes()) if path and Path(path).is_file() else None


@contextmanager
def every_death_counts() -> Iterator[None]:
    """Makes Ray Tune retry after every worker's death, for the time of `Tuner.fit`.

    If Ray's memory monitor killed a worker, Ray 2.60 raises OutOfMemoryError, which is not a RayActorError,
    and Tune stops the whole experiment ("Caught unexpected exception"). And if a worker died just as it was
    handed a trial, that trial would not be tried again, however many failures it may have.
    """
    controller, manager = tune_controller.TuneController, tune_controller.RayActorManager
    process_failure = controller._process_trial_failure

    def process_as_running(self: Any, trial: Any, exception: Exception) -> None:
        if trial in self._resetting_trials:
            self._resetting_trials.remove(trial)
            self._set_trial_status(trial, Trial.RUNNING)  # only a running trial is retried
        elif trial.status == Trial.PENDING:
            return  # the same death, reported for the process and for the call
        process_failure(self, trial, exception)

    tune_controller.RayActorManager = _ActorManager
    controller._process_trial_failure = process_as_running
    try:
        yield
    finally:
        tune_controller.RayActorManager = manager
        controller._process_trial_failure = process_failure


class _ActorManager(RayActorManager):
    def _actor_start_failed(self, tracked_actor: Any, exception: Exception) -> None:
        super()._actor_start_failed(tracked_actor, self._as_death(tracked_actor, exception))

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        death = self._as_death(tracked_actor_task._tracked_actor, exception)
        super()._actor_task_failed(tracked_actor_task, death)

    def _as_death(self, tracked_actor: Any, exception: Exception) -> Exception:
        actor, _ = self._live_actors_to_ray_actors_resources.get(tracked_actor, (None, None))
        actor_id = None if actor is None else actor._actor_id.hex()
        if isinstance(exception, ActorUnavailableError) and actor is not None:
            exception = once_known(actor, exception)
        if isinstance(exception, RayActorError) and _NODE_DIED in str(exception):
            return NodeLostError(actor_id, str(exception))
        if not isinstance(exception, RayError) or isinstance(exception, (RayActorError, RayTaskError)):
            return exception
        return WorkerKilledError(actor_id, str(exception))


def once_known(actor: Any, unavailable: ActorUnavailableError) -> RayActorError:
    """Returns what an actor that cannot be reached died of, or `unavailable` if it lives or Ray cannot tell.

    Waits for Ray to find out, so that a trial is not blamed for the death of its node.
    """
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            ray.get(actor.__ray_ready__.remote(), timeout=left_s)
        except ActorUnavailableError:
            time.sleep(0.5)
        except RayActorError as death:
            return death
        except GetTimeoutError:
            break
        else:
            break
    return unavailable


def _of_the_memory_monitor(text: str, actor_id: str | None) -> WorkerDeath:
    killed = {found["actor"]: float(found["gib"]) * 1024 for found in _KILLED.finditer(text)}
    only = next(iter(killed.values())) if len(killed) == 1 else None
    need_mib = killed.get(actor_id or "", only)
    held = "" if need_mib is None else f" while it held {need_mib:,.0f} MiB"
    node = _ON_NODE.search(text)
    of = "" if node is None else f" ({node[1]} of {node[2]} GiB used)"
    reason = f"the host ran out of memory{of}: its process was stopped{held}"
    host_mib = math.nan if node is None else float(node[2]) * 1024
    return WorkerDeath(reason=reason, out_of_memory=True, need_mib=need_mib, host_mib=host_mib)


def _of_a_call(cause: BaseException) -> WorkerDeath:
    reason = f"{type(cause).__name__}: {_first_line(str(cause)) or 'no message'}"
    ran_out = is_out_of_memory(cause)
    # The memory of its process is not known here.
    need_mib = tried_mib(cause) or None if ran_out else None
    return WorkerDeath(reason=reason, out_of_memory=ran_out, need_mib=need_mib)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _last_line(text: str) -> str:
    return _first_line("\n".join(reversed(text.splitlines())))
