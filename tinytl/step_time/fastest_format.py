"""Whether lean blocks or PyTorch's own are the faster ones for a run, and on a GPU whether a CUDA graph is,
measured before it begins.

On small inputs they are close, and an estimate is off by a tenth. It knows nothing of a GPU's launches. What
is measured is kept beside the times of steps (see `calibration.py`), so a run that is repeated on this
machine runs as it did.
"""

import dataclasses
import json
import os

from tinytl.config.names import FIELDS_WITHOUT_MEMORY
from tinytl.config.plan import formats_to_measure
from tinytl.config.train_config import TrainConfig
from tinytl.device import resolve_device
from tinytl.step_time.calibration import about_machine
from tinytl.step_time.kept import FILE_VARIABLE, keep, kept_file
from tinytl.step_time.measure import measured_seconds

NEARLY_AS_FAST = 1.02
"""Lean blocks within this factor of the fastest count as the fastest: they need less memory."""
ROUNDS = 4
"""Steps of each format that are measured, each after one that is not."""
DIFFER = ("stock_below_kib", "memory_format", "cuda_graph")
"""The fields in which formats differ."""
MOST_OF_RUN = 0.05
"""A shorter run than one of which measuring is so much takes the estimate."""


def fastest_format(config: TrainConfig, n_steps: int, threads: int) -> TrainConfig | None:
    """Returns `config` (`num_classes` set, plan `fast`) planned by what was measured on this machine.

    None if there is nothing to choose, or a run of `n_steps` steps is too short to measure. Nothing is
    measured while `TINYTL_STEP_TIMES` names the times to use.
    """
    found = formats_to_measure(config)
    if len(found) == 1 or os.environ.get(FILE_VARIABLE):
        return None
    if 2 * ROUNDS * len(found) > MOST_OF_RUN * n_steps:
        return None
    device = resolve_device(config.device).type
    path = kept_file("fastest_format", about_machine(threads, device) | {"step": _what_decides(config)})
    try:
        kept = json.loads(path.read_text())
        fastest = {name: kept[name] for name in DIFFER}
        return next(choice for choice in found if _of(choice) == fastest)
    except (OSError, ValueError, TypeError, KeyError, StopIteration):
        pass  # not measured, or by another version
    seconds = measured_seconds(found, ROUNDS, threads)
    fastest_s = min(seconds)
    choice = found[0] if seconds[0] <= NEARLY_AS_FAST * fastest_s else found[seconds.index(fastest_s)]
    keep(path, _of(choice) | {"seconds": seconds})
    return choice


def _of(choice: TrainConfig) -> dict[str, object]:
    """Returns the fields in which formats differ."""
    return {name: getattr(choice, name) for name in DIFFER}


def _what_decides(config: TrainConfig) -> dict[str, object]:
    """Returns the fields on which the time of a step depends."""
    fields = dataclasses.asdict(config)
    return {name: value for name, value in fields.items() if name not in FIELDS_WITHOUT_MEMORY}
