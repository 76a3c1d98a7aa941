"""GELU and its gradient in ONNX's operators: x times the probability that a normal number is less.

Source: Gaussian Error Linear Units, Hendrycks and Gimpel 2016; `tanh` is its approximation there.
"""

import math

from tinytl.export.training.graph_writer import Entry, GraphWriter, Value

CUBIC = 0.044715


def gelu(graph: GraphWriter, x: Entry, approximate: str = "none") -> Value:
    """As `aten.gelu`."""
    shape = tuple(x.shape)
    return graph.add("Mul", [x, _less(graph, _signed(graph, x, approximate))], shape)


def gelu_backward(graph: GraphWriter, grad: Entry, x: Entry, approximate: str = "none") -> Value:
    """As `aten.gelu_backward`: the probability of less, plus x times its slope."""
    shape = tuple(x.shape)
    signed = _signed(graph, x, approximate)
    square = graph.add("Mul", [x, x], shape)
    if approximate == "none":
        density = graph.add("Exp", [graph.add("Mul", [square, -0.5], shape)], shape)
        density = graph.add("Mul", [density, 1 / math.sqrt(2 * math.pi)], shape)
    else:
        rest = graph.add("Sub", [1.0, graph.add("Mul", [signed, signed], shape)], shape)
        inner = graph.add("Add", [graph.add("Mul", [square, 3 * CUBIC], shape), 1.0], shape)
        density = graph.add(
            "Mul", [rest, graph.add("Mul", [inner, 0.5 * math.sqrt(2 / math.pi)], shape)], shape
        )
    slope = graph.add("Add", [_less(graph, signed), graph.add("Mul", [x, density], shape)], shape)
    return graph.add("Mul", [grad, slope], shape)


def _signed(graph: GraphWriter, x: Entry, approximate: str) -> Value:
    """Returns what runs from -1 to 1 with the probability."""
    shape = tuple(x.shape)
    if approximate == "none":
        return graph.add("Erf", [graph.add("Mul", [x, math.sqrt(0.5)], shape)], shape)
    square = graph.add("Mul", [graph.add("Mul", [x, x], shape), CUBIC], shape)
    inner = graph.add("Mul", [x, graph.add("Add", [square, 1.0], shape)], shape)
    return graph.add("Tanh", [graph.add("Mul", [inner, math.sqrt(2 / math.pi)], shape)], shape)


def _less(graph: GraphWriter, signed: Value) -> Value:
    return graph.add("Mul", [graph.add("Add", [signed, 1.0], signed.shape), 0.5], signed.shape)
