"""A network is called with a tensor, a tuple or a mapping, and what is no tensor stays."""

from collections import UserDict

import pytest
import torch

from tinytl.memory_efficient.batch import call, changed, samples_in, tensors_of

X, Y, ONE = torch.randn(3, 2), torch.arange(3), torch.tensor(2.0)


class Takes(torch.nn.Module):
    def forward(self, x, times=ONE, word=""):
        return x * times, word


@pytest.mark.parametrize(
    "batch",
    [(X, ONE, "a"), {"x": X, "times": ONE, "word": "a"}, UserDict({"x": X, "times": ONE, "word": "a"})],
    ids=["tuple", "mapping", "mapping of a library"],
)
def test_inputs_are_given_by_place_or_by_name(batch):
    out, word = call(Takes(), batch)
    assert torch.equal(out, 2 * X) and word == "a"
    assert samples_in(batch) == 3 and len(tensors_of(batch)) == 2
    fewer = changed(batch, lambda tensor: tensor[:2], lambda tensor: tensor + 1)
    out, word = call(Takes(), fewer)
    assert torch.equal(out, 3 * X[:2]) and word == "a"


def test_a_tensor_is_a_batch():
    assert torch.equal(call(Takes(), X)[0], 2 * X)
    assert samples_in(X) == 3 and torch.equal(changed(X, torch.neg, torch.abs), -X)


@pytest.mark.parametrize("batch", [(), {"x": 3}, "images"])
def test_without_a_tensor_it_is_no_batch(batch):
    with pytest.raises(TypeError, match="a batch is a tensor, or"):
        samples_in(batch)
