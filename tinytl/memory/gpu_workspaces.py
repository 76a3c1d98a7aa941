"""What cuBLAS and cuDNN hold on a GPU beside a step's tensors: a GPU says it, once.

cuBLAS keeps a workspace for each stream as long as the process lives. cuDNN asks for one in a convolution, if
its algorithm wants one. Fake tensors know of neither, and sizes differ between GPUs and versions. So real
steps are compared with their predictions once per GPU and precision. What is found is kept in
`$XDG_CACHE_HOME/tinytl` and counts in every prediction for a GPU, as its part `workspaces`.
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

FORMAT = 1
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
    cudnn_mib: float
    """By how much a real step's peak exceeded the prediction without workspaces, at most; 0 if it did not."""

    @property
    def total_mib(self) -> float:
        """What a prediction counts."""
        return self.cublas_mib + self.cudnn_mib


_KNOWN: dict[str, Workspaces] = {}
_MAY_ASK = [True]
"""Whether the GPU of this machine may be asked for what is not known."""


def workspaces(precision: str, measure: Callable[[str], Workspaces]) -> Workspaces | None:
    """Returns the workspaces of this machine's GPU, measured if nobody has; None if no GPU can say it."""
    if precision not in _KNOWN and _MAY_ASK[0] and torch.cuda.is_available():
        try:
            _KNOWN[precision] = _find(precision, measure)
        except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
            _MAY_ASK[0] = False
            reason = str(error).partition("\n")[0]
            logger.warning("the GPU does not say what cuBLAS and cuDNN hold (%s): not counted", reason)
    return _KNOWN.get(precision)


def compared(precision: str, measured_mib: PeakOf, predicted_mib: PeakOf) -> Workspaces:
    """Returns what real steps on this machine's GPU hold beside what was predicted.

    `measured_mib` runs a step, `predicted_mib` predicts its peak without workspaces.
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


def _find(precision: str, measure: Callable[[str], Workspaces]) -> Workspaces:
    about = {
        "format": FORMAT,
        "gpu": device_name(torch.device("cuda")),
        "torch": torch.__version__,
        "precision": precision,
    }
    path = kept_file("gpu_workspaces", about)
    try:
        kept = json.loads(path.read_text())
        return Workspaces(cublas_mib=float(kept["cublas_mib"]), cudnn_mib=float(kept["cudnn_mib"]))
    except (OSError, ValueError, TypeError, KeyError):
        pass  # not measured, or by another version
    found = in_own_process(measure, precision)
    keep(path, about | dataclasses.asdict(found))
    return found
