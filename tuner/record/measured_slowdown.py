"""The slowdown of the front's plans, measured once a study has ended. Imports torch only to measure."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tinytl.config.train_config import TrainConfig
from tinytl.files import write_whole
from tuner.record.by_trial import read_by_trial
from tuner.record.trials import Trial

FILE = "slowdown.json"
"""In the study's folder: by trial, the time of a step with its plan over that with its fastest plan."""


def known_slowdowns(folder: Path) -> dict[str, float]:
    """Returns what is in a study's `slowdown.json`: nothing if nothing was measured.

    Raises:
        ConfigError: for a file that is damaged.
    """
    return read_by_trial(folder / FILE, float, "slowdowns are measured again")


def measure_slowdowns(
    folder: Path,
    front: Sequence[Trial],
    configs: Mapping[str, TrainConfig],
    held_mib: float = math.inf,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Takes a few real steps with the plan of each trial of the front, and with its fastest, in turns.

    A trial that has a figure in `folder`, no curve, or a fastest plan that does not fit `held_mib`, is left
    alone. `configs` have what each was trained with, by name. Ends before the next trial if `stopped`.

    Raises:
        ConfigError: for a file of figures that is damaged or cannot be written.
    """
    from tinytl.step_time.measure import measured_seconds

    known = known_slowdowns(folder)
    for trial in front:
        if stopped():
            return
        if trial.name in known or trial.plan is None or trial.fast_memory_mib > held_mib:
            continue
        if trial.plan is trial.curve[0]:
            known[trial.name] = 1.0
        else:
            config = configs[trial.name]
            seconds, fastest = measured_seconds([plan.of(config) for plan in (trial.plan, trial.curve[0])])
            known[trial.name] = round(seconds / fastest, 3)
        write_whole(folder / FILE, json.dumps(known, indent=2) + "\n")
