"""How fast the machines are with which a study's slowdowns are predicted: those on which it began.

For a GPU, what its libraries hold beside a step's tensors belongs to it: predictions count it.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinytl.errors import ConfigError
from tinytl.step_time.kept import times_are_kept
from tuner.cluster.gpu_figures import ask_smallest_gpu, mixed
from tuner.cluster.nodes import Node

if TYPE_CHECKING:
    from tinytl.memory.gpu_workspaces import Workspaces

FILE = "step_times.json"
"""In a study's folder: how long operations take, as it was when the study began."""
GPU_FILE = "gpu_figures.json"
"""Beside it: the same of a GPU, and what its libraries hold."""


def is_known(folder: Path) -> bool:
    """Whether a study in `folder` has nothing to measure before it predicts. Imports no torch."""
    return has_begun(folder) or times_are_kept()


def use_times(folder: Path) -> None:
    """Lets predicted slowdowns be those with which the study in `folder` began, or for a new one, of this
    machine, which is measured if it was not yet: while nothing else runs.

    Raises:
        ConfigError: for a file of times that is none.
    """
    from tinytl.memory.gpu_workspaces import use_workspaces
    from tinytl.step_time.calibration import read_step_times, step_times, use_step_times

    if not has_begun(folder):  # nor those of another study that this process has run
        use_step_times(None)
        use_step_times(None, device="cuda")
        use_workspaces(None)
        step_times()
        return
    times = read_step_times(folder / FILE)
    use_step_times(times)
    # If no GPU had said anything as the study began, none is asked now: its trials are compared.
    of_gpu = (folder / GPU_FILE).exists()
    use_step_times(read_step_times(folder / GPU_FILE) if of_gpu else times, device="cuda")
    use_workspaces(_read_workspaces(folder / GPU_FILE) if of_gpu else {})


def has_begun(folder: Path) -> bool:
    """Whether the study in `folder` keeps the times with which it began."""
    return (folder / FILE).exists()


def ask_gpus(folder: Path, nodes: Sequence[Node]) -> list[str]:
    """Asks a GPU of the cluster for its figures, if a new study has GPUs and this machine has none.

    Returns lines to show: that GPUs differ, or that none answered and what the study does without.
    """
    import torch

    from tinytl.memory.gpu_workspaces import use_workspaces
    from tinytl.step_time.calibration import use_step_times

    with_gpu = [node for node in nodes if node.gpus]
    lines = [line for line in [mixed(with_gpu)] if line is not None]
    if not with_gpu or has_begun(folder) or torch.cuda.is_available():
        return lines
    try:
        found = ask_smallest_gpu(with_gpu)
    except ConfigError as error:
        without = "slowdowns are those of this machine's CPU, and predictions count a step's tensors alone"
        return [*lines, f"{error}: {without}."]
    use_step_times(found.times, device="cuda")
    use_workspaces(dict(found.workspaces))
    return lines


def keep_times(folder: Path) -> None:
    """Writes the times in use into the folder of a study that has none."""
    from tinytl.memory.gpu_workspaces import known_workspaces
    from tinytl.step_time.calibration import known_step_times, step_times, write_step_times

    if has_begun(folder):
        return
    found = {precision: dataclasses.asdict(held) for precision, held in known_workspaces().items()}
    if found or ("cuda", 1) in known_step_times():
        write_step_times(step_times(device="cuda"), folder / GPU_FILE, {"workspaces": found})
    write_step_times(step_times(), folder / FILE)  # last: with it the study has begun


def _read_workspaces(path: Path) -> "dict[str, Workspaces]":
    from tinytl.memory.gpu_workspaces import Workspaces

    try:
        found = json.loads(path.read_text())["workspaces"]
        return {str(precision): Workspaces(**held) for precision, held in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path} holds no figures of a GPU ({error}): remove it, and they are measured"
        ) from None
