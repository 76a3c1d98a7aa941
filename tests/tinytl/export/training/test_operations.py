"""The register of all families."""

import torch

from tinytl.export.training import operations  # noqa: F401  # fills the register
from tinytl.export.training.converters import CONVERTERS

aten = torch.ops.aten


def test_each_family_is_registered() -> None:
    of_each = {
        aten.convolution_backward.default, aten.native_layer_norm.default, aten.silu.default,
        aten.add.Tensor, aten.cat.default, aten.upsample_bilinear2d.default,
    }  # fmt: skip
    assert of_each <= CONVERTERS.keys()


def test_a_key_is_one_overload() -> None:
    assert [key for key in CONVERTERS if not isinstance(key, torch._ops.OpOverload)] == []
