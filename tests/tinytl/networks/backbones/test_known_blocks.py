import importlib

import pytest
import torch
from torch import nn
from torchvision.models.convnext import CNBlock

from tinytl.networks.backbones.known_blocks import KNOWN, is_known_block


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_name_is_a_class_of_its_package(name):
    pytest.importorskip(name.partition(".")[0])  # transformers: tests/integration/test_frameworks.py has it
    module, _, cls = name.rpartition(".")
    found = getattr(importlib.import_module(module), cls)
    assert issubclass(found, nn.Module) and is_known_block(found)


def test_others_are_not_known():
    class Mine(CNBlock):
        pass

    assert not is_known_block(Mine) and not is_known_block(nn.Conv2d)


@pytest.mark.parametrize("net", ["torchvision/efficientnet_b0", "timm/ghostnet_050", "timm/repvgg_a0"])
def test_samples_do_not_depend_on_each_other(net):
    family, _, name = net.partition("/")
    if family == "timm":
        import timm

        made = timm.create_model(name)
    else:
        from torchvision.models import get_model

        made = get_model(name)
    block = next(module for module in made.modules() if is_known_block(type(module))).eval()
    channels = next(m for m in block.modules() if isinstance(m, nn.Conv2d)).in_channels
    x = torch.randn(3, channels, 12, 12)
    before = x.clone()
    with torch.no_grad():
        whole, apart = block(x), torch.cat([block(x[i : i + 1]) for i in range(3)])
    assert torch.allclose(whole, apart, atol=1e-5) and torch.equal(x, before)
