"""Training in 16 bits in operations for which that is safe: autocast, and loss scaling for float16."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from tinytl.device import autocast_kind

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class MixedPrecision:
    """Applies `TrainConfig.precision` on `device`; parameters and gradients stay float32.

    `float16` gradients underflow, so the loss is scaled, and a step whose gradients overflow is skipped. On a
    GPU, from now on, 32-bit convolutions and products round as `precision` says, and kernels are those that
    repeat their numbers, whatever the process had before (see `backends_restored`).

    Source: Micikevicius et al. 2018; `torch.amp`.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        self.dtype = DTYPES.get(precision)
        self.device = device
        if device.type == "cuda":
            _set_backends(precision == "tf32")
        # A step on fake tensors may be one of a GPU that is not here: nothing is to be scaled there.
        scales = precision == "float16" and (device.type == "cpu" or torch.cuda.is_available())
        self.scaler = torch.amp.GradScaler(device.type) if scales else None

    def autocast(self) -> AbstractContextManager[object]:
        """Returns the context for a forward pass."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(autocast_kind(self.device.type), self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of `loss`; they stay scaled until `step`."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes the optimiser's step with unscaled gradients."""
        if self.scaler is None:
            optimizer.step()
        else:
            self.scaler.step(optimizer)
            self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Returns the loss scale and its history; empty if there is none."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        if self.scaler is not None:
            self.scaler.load_state_dict(state)


def _set_backends(round_to_tf32: bool) -> None:
    for place, values in _BACKENDS.items():
        for name, value in values.items():
            setattr(_PLACES[place], name, value)
    torch.backends.cudnn.allow_tf32 = round_to_tf32
    torch.backends.cuda.matmul.allow_tf32 = round_to_tf32


@contextmanager
def backends_restored() -> Iterator[None]:
    """Gives the process back, at its end, the settings of cuDNN and cuBLAS that it has now: they are of the
    whole process, and a caller may have others.
    """
    before = [
        (place, name, getattr(_PLACES[place], name))
        for place, values in _BACKENDS.items()
        for name in ("allow_tf32", *values)
    ]
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(_PLACES[place], name, value)


_PLACES: Mapping[str, Any] = {"cudnn": torch.backends.cudnn, "cublas": torch.backends.cuda.matmul}
_BACKENDS: Mapping[str, Mapping[str, bool]] = {
    # Kernels are chosen by rule, not by a race whose winner changes from run to run, and with it the numbers
    # and the workspace; and among them those that add in the same order every time.
    "cudnn": {"benchmark": False, "deterministic": True},
    # Sums of 16-bit products are kept in 32 bits throughout. By default cuBLAS may round parts of them.
    "cublas": {
        "allow_bf16_reduced_precision_reduction": False,
        "allow_fp16_reduced_precision_reduction": False,
    },
}
"""What a GPU's libraries are told, besides `allow_tf32`: by default PyTorch rounds to tf32 in convolutions,
and not in products of matrices. The newer `fp32_precision` of one operation leaves flags that torch.export
and torch.compile then refuse to read."""
