"""The predictions of this process: each step is followed once on fake tensors, and what it needs is kept."""

import dataclasses
import threading
from collections.abc import Iterable
from typing import NamedTuple

from tinytl.config.train_config import TrainConfig
from tinytl.memory.fake_step import FakeStep
from tinytl.memory.gpu_scratch import may_learn, scratch_bytes_of
from tinytl.memory.prediction import MemoryPrediction
from tinytl.memory.storage_tracker import StorageTracker


class StepKey(NamedTuple):
    """What a prediction is about."""

    config: TrainConfig
    """Planned; the fields without memory are the default."""
    by_call: bool
    """Whether the prediction has what a GPU's kernels allocate inside (`gpu_scratch`)."""
    threads: int
    """Of a CPU's kernels, which decide what these allocate inside; 0 of a GPU."""


PREDICTED: dict[StepKey, MemoryPrediction] = {}
"""Without the workspaces of a GPU's libraries."""


def is_predicted(key: StepKey) -> bool:
    """Whether a prediction is there, and a GPU cannot say more of it."""
    found = PREDICTED.get(key)
    return found is not None and not may_learn(found.calls_not_known)


def predict_steps(keys: Iterable[StepKey]) -> None:
    """Makes the predictions that are missing in `PREDICTED`.

    A GPU is asked once for what it has to say of all of them, in place of once for each.

    Raises:
        ConfigError: for an operation of a network that does not run on fake tensors.
    """
    missing = [key for key in dict.fromkeys(keys) if not is_predicted(key)]
    if not missing:
        return
    with _BUILT.lock:
        followed = {key: _BUILT.step(key.config).run(key.config) for key in missing}
        calls = {call for key, tracker in followed.items() if key.by_call for call in tracker.calls}
        scratch = scratch_bytes_of(calls)
        for key, tracker in followed.items():
            prediction = tracker.prediction(scratch if key.by_call else None)
            PREDICTED[key] = _with_work(prediction, tracker, key.config)


def predict_tensors(config: TrainConfig) -> MemoryPrediction:
    """Predicts a planned configuration without the cache, and without what only a GPU can say."""
    with _BUILT.lock:
        tracker = _BUILT.step(config).run(config)
    return _with_work(tracker.prediction(), tracker, config)


def _with_work(
    prediction: MemoryPrediction, tracker: StorageTracker, config: TrainConfig
) -> MemoryPrediction:
    # A pass was followed. A last one with fewer samples counts as a part.
    n_passes = config.batch_size / config.samples_in_memory
    work = tracker.work.of_passes(n_passes, tracker.optimizer_work)
    return dataclasses.replace(prediction, work=work)


class _LastBuilt:
    """The network of the last prediction: the plans of a configuration follow one another."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._of: TrainConfig | None = None
        self._step: FakeStep | None = None

    def step(self, config: TrainConfig) -> FakeStep:
        """Returns a step of `config`, or of the same configuration under another plan."""
        of = dataclasses.replace(
            config,
            micro_batch_size=None,
            checkpoint="none",
            stock_below_kib=0.0,
            slice_mib=None,
            cuda_graph=None,
            memory_format=None,
        )
        if self._step is None or self._of != of:
            self._of, self._step = None, FakeStep(config)
            self._of = of
        return self._step


_BUILT = _LastBuilt()
