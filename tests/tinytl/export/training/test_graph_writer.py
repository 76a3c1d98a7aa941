import numpy as np
import torch

from tests.support.onnx_graphs import run
from tinytl.export.training.graph_writer import GraphWriter


def test_constants_are_there_once_and_nodes_without_a_reader_are_not() -> None:
    writer = GraphWriter()
    x = writer.input("x", torch.zeros(2, 3))
    ones = torch.ones(3, dtype=torch.float64)
    y = writer.add("Mul", [writer.add("Add", [x, ones], (2, 3)), ones.clone()], (2, 3))
    writer.add("Add", [y, torch.full((3,), 7.0)], (2, 3))
    model = writer.model([("y", y)], "test")
    assert [node.op_type for node in model.graph.node] == ["Add", "Mul", "Identity"]
    assert len(model.graph.initializer) == 1
    (found,) = run(model, {"x": np.zeros((2, 3), np.float32)})
    assert found.dtype == np.float32 and (found == 1).all()
