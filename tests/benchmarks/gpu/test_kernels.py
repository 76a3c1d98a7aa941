"""Ways that are compared give the same numbers."""

import itertools
from typing import Any

import pytest
import torch

from benchmarks.gpu import kernels as module
from benchmarks.gpu.kernels import kernels
from tinytl.device import gpu_emulated


def test_the_ways_to_a_result_give_the_same_numbers() -> None:
    compared: list[float] = []
    torch.manual_seed(0)
    x, grad = (module._map(3, n, 9, torch.float64, torch.device("cpu")) for n in (16, 24))
    weight = torch.randn(24, 16, 1, 1, dtype=torch.float64)
    with gpu_emulated():
        for ways in (module._pointwise(x, grad, weight) | module._sums(x)).values():
            for one, other in zip(*(as_tuple(way()) for way in ways.values()), strict=True):
                compared.append(float((one - other).abs().max() / other.abs().max()))
    assert len(compared) == 5 and max(compared) < 1e-12


def as_tuple(made: Any) -> tuple[torch.Tensor, ...]:
    return tuple(t for t in made if t is not None) if isinstance(made, tuple) else (made,)


def test_there_is_a_row_for_each_shape_and_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHAPES", ((8, 16, 4), (16, 8, 2)))
    rows = kernels(torch.device("cpu"), 2, "bfloat16")
    found = {(tuple(row["shape"]), row["result"]) for row in rows}
    assert len(rows) == len(found) == 8
    for row, way in itertools.product(rows, ("convolution", "product")):
        assert "at_once_ms" in row or row[f"{way}_ms"] > 0
