"""What cuBLAS and cuDNN hold on a GPU beside a step's tensors: a GPU says it, once.

cuBLAS keeps a workspace for each stream as long as the process lives: the part `workspaces` of every
prediction for a GPU. cuDNN asks for one in single convolutions, which a GPU that is here is asked for one by
one (`gpu_scratch`). For a driver that has no such GPU, real steps are compared with their predictions once
per precision, where the GPU is, and by how much they exceed them counts as a constant. What is found is kept
in `$XDG_CACHE_HOME/tinytl`.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from tinytl.config.train_config import TrainConfig
from tinytl.device import device_name
from tinytl.memory.measure import MIB, cublas_workspace_bytes
from tinytl.step_time.kept import keep, kept_file
from tinytl.step_time.own_process import in_own_process

FORMAT = 2
"""Raised if what is measured changes, so that nobody uses what an older version has kept."""
_REFERENCES = tuple(
    TrainConfig(
        backbone="efficientnet_lite0", weights="none", method=method, norm="frozen_bn", num_classes=10,
        resolution=224, batch_size=8, micro_batch_size=8, checkpoint="none", stock_below_kib=0.0,
        device="cuda",
    )
    for method in ("FT-Full", "TinyTL-L+B")
)  # fmt: skip
"""Together, convolutions of every kind, with gradients of weights and of inputs."""


logger = logging.getLogger(__name__)
PeakOf = Callable[[TrainConfig], float]
"""Returns the peak of a step in MiB."""


@dataclass(frozen=True, kw_only=True)
class Workspaces:
    """What two libraries hold, in MiB."""

    cublas_mib: float
    """From the first product of matrices on, in every step."""
    cudnn_mib: float | None = None
    """By how much a real step's peak exceeded the prediction without workspaces, at most; 0 if it did not.
    None: a GPU is asked operation by operation."""

    @property
    def total_mib(self) -> float:
        """What counts beside what a step is seen to hold."""
        return self.cublas_mib + (self.cudnn_mib or 0.0)


_KNOWN: dict[str, Workspaces] = {}
_MAY_ASK = [True]
"""Whether the GPU of this machine may be asked for what is not known."""


def workspaces(precision: str) -> Workspaces | None:
    """Returns the workspaces in use, or those of this machine's GPU; None if no GPU can say it."""
    if precision not in _KNOWN and _MAY_ASK[0] and torch.cuda.is_available():
        found = _found_or_none({}, _of_cublas)
        if found is None:
            _MAY_ASK[0] = False
        else:
            _KNOWN[precision] = found
    return _KNOWN.get(precision)


def constant_workspaces(precision: str, measure: Callable[[str], Workspaces]) -> Workspaces | None:
    """Returns those of this machine's GPU for a driver elsewhere, which can ask it for no single operation.

    `measure` is `compared` with real steps, and runs in a process of its own. None if the GPU cannot say it.
    """
    return _found_or_none({"precision": precision}, lambda: in_own_process(measure, precision))


def compared(precision: str, measured_mib: PeakOf, predicted_mib: PeakOf) -> Workspaces:
    """Returns what real steps on this machine's GPU hold beside what was predicted.

    `measured_mib` runs a step, `predicted_mib` predicts its peak without workspaces and scratch memory.
    """
    cublas_mib = cublas_workspace_bytes() / MIB
    references = [dataclasses.replace(config, precision=precision) for config in _REFERENCES]
    more = [measured_mib(config) - cublas_mib - predicted_mib(config) for config in references]
    return Workspaces(cublas_mib=cublas_mib, cudnn_mib=max(0.0, *more))


def known_workspaces() -> dict[str, Workspaces]:
    """Returns what is known so far, by precision, for another process."""
    return dict(_KNOWN)


def use_workspaces(found: Mapping[str, Workspaces] | None) -> None:
    """Uses these workspaces, by precision, and no others from now on, such as those with which a study began;
    None: those of this machine's GPU.
    """
    _KNOWN.clear()
    _KNOWN.update(found or {})
    _MAY_ASK[0] = found is None


def _found_or_none(of: Mapping[str, str], measure: Callable[[], Workspaces]) -> Workspaces | None:
    try:
        return _find(of, measure)
    except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
        reason = str(error).partition("\n")[0]
        logger.warning("the GPU does not say what cuBLAS and cuDNN hold (%s): not counted", reason)
        return None


def _find(of: Mapping[str, str], measure: Callable[[], Workspaces]) -> Workspaces:
    about = {
        "format": FORMAT,
        "gpu": device_name(torch.device("cuda")),
        "torch": torch.__version__,
    } | dict(of)
    path = kept_file("gpu_workspaces", about)
    try:
        kept = json.loads(path.read_text())
        constant = None if kept["cudnn_mib"] is None else float(kept["cudnn_mib"])
        return Workspaces(cublas_mib=float(kept["cublas_mib"]), cudnn_mib=constant)
    except (OSError, ValueError, TypeError, KeyError):
        pass  # not measured, or by another version
    found = measure()
    keep(path, about | dataclasses.asdict(found))
    return found


def _of_cublas() -> Workspaces:
    return Workspaces(cublas_mib=in_own_process(cublas_workspace_bytes) / MIB)
