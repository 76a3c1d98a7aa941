"""Several ways to the same numbers on a GPU, each timed alone: which one lean blocks should take there.

A 1x1 convolution on channels_last maps by cuDNN and as a product of matrices by cuBLAS; the sums of group
norm at once and per channel first. Beside the time, what each allocates inside. Shapes are MobileNetV2's at
224 px.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tinytl.memory_efficient.ops.pointwise import product_forward, product_input_grad, product_weight_grad
from tinytl.training.mixed_precision import DTYPES, MixedPrecision, backends_restored

SHAPES = ((16, 96, 112), (144, 24, 56), (192, 64, 28), (576, 96, 14), (960, 320, 7))
"""Input channels, output channels, and pixels of a side."""
CALLS = 20
"""Of each way, one after the other: their mean is what one needs."""
Ways = Mapping[str, Callable[[], Any]]


def kernels(device: torch.device, batch_size: int, precision: str) -> list[dict[str, Any]]:
    """Returns a row per shape and result: milliseconds, and MiB allocated inside, of each way."""
    rows: list[dict[str, Any]] = []
    with backends_restored(), torch.no_grad():
        MixedPrecision(precision, device)
        dtype = DTYPES.get(precision, torch.float32)
        for channels, width, side in SHAPES:
            of_shape = {"batch_size": batch_size, "precision": precision, "shape": [channels, width, side]}
            x = _map(batch_size, channels, side, dtype, device)
            grad = _map(batch_size, width, side, dtype, device)
            weight = torch.randn(width, channels, 1, 1, dtype=dtype, device=device)
            for result, ways in (_pointwise(x, grad, weight) | _sums(x)).items():
                row = of_shape | {"result": result}
                for name, way in ways.items():
                    row |= {f"{name}_ms": _ms(way, device), f"{name}_inside_mib": _inside_mib(way, device)}
                rows.append(row)
    return rows


def _pointwise(x: Tensor, grad: Tensor, weight: Tensor) -> dict[str, Ways]:
    bias = weight[:, 0, 0, 0].contiguous()

    def by_cudnn(wanted: list[bool]) -> Any:
        plain = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        return torch.ops.aten.convolution_backward(grad, x, weight, None, *plain, wanted)

    return {
        "output": {
            "convolution": lambda: torch.conv2d(x, weight, bias),
            "product": lambda: product_forward(x, weight, bias),
        },
        "gradient of the input": {
            "convolution": lambda: torch.conv2d(grad, weight.transpose(0, 1)),
            "product": lambda: product_input_grad(grad, weight),
        },
        "gradient of the weight": {
            "convolution": lambda: by_cudnn([False, True, False]),
            "product": lambda: product_weight_grad(grad, x),
        },
    }


def _sums(x: Tensor) -> dict[str, Ways]:
    groups = x.permute(0, 2, 3, 1).unflatten(3, (-1, 8))
    return {
        "mean and variance of groups of 8": {
            "at_once": lambda: torch.var_mean(groups, (1, 2, 4), correction=0),
            "channels_first": lambda: of_groups(*torch.var_mean(x, (2, 3), correction=0)),
        }
    }


def of_groups(var: Tensor, mean: Tensor, size: int = 8) -> tuple[Tensor, Tensor]:
    """Returns variance and mean `(N, G)` of groups of `size` channels from those of channels `(N, C)`."""
    of_mean, of_group = torch.var_mean(mean.unflatten(1, (-1, size)), 2, correction=0)
    return var.unflatten(1, (-1, size)).mean(2) + of_mean, of_group


def _map(n: int, channels: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    made = torch.randn(n, channels, side, side, dtype=dtype, device=device)
    return made.contiguous(memory_format=torch.channels_last)


def _ms(way: Callable[[], Any], device: torch.device) -> float:
    way()
    _wait(device)
    start = time.perf_counter()
    for _ in range(CALLS):
        way()
    _wait(device)
    return round(1000 * (time.perf_counter() - start) / CALLS, 4)


def _inside_mib(way: Callable[[], Any], device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    made = way()
    counted = torch.cuda.memory_stats()
    del made
    nbytes = counted["requested_bytes.all.peak"] - counted["requested_bytes.all.current"]
    return round(nbytes / 2**20, 3)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
