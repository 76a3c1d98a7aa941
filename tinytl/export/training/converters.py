"""Which function writes an operation of torch in ONNX's: the register that each family fills."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tinytl.export.training.graph_writer import Entry, GraphWriter, Value

Converter = Callable[..., Any]
"""Called with the graph, the shape and the type of the result (`like`), and the operation's own arguments.
All maps are `(N, C, H, W)`. An operation of torch that edits its input is written as one that does not; the
reader of the graph (`translation`) sees to names."""
CONVERTERS: dict[Any, Converter] = {}


def converts(*operations: Any) -> Callable[[Converter], Converter]:
    """Registers a function for some operations."""

    def register(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(operations, function))
        return function

    return register


def converts_elementwise(operator: str, *operations: Any) -> None:
    """Registers an operator of ONNX that has the same inputs."""

    def convert(graph: GraphWriter, like: Value, *inputs: Any, **_: Any) -> Value:
        return graph.add(operator, [number(one, inputs) for one in inputs], like.shape, like.dtype)

    converts(*operations)(convert)


def number(entry: Any, beside: Sequence[Any]) -> Entry:
    """Returns an entry; a number as a constant of the type of what stands beside it."""
    if isinstance(entry, (int, float)):
        like = next(one for one in beside if not isinstance(one, (int, float)))
        return torch.tensor(entry, dtype=like.dtype)
    return entry
