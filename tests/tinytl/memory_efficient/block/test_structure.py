import pytest
from torch import nn
from torchvision.models import mobilenet_v2, mobilenet_v3_small, resnet18

from tinytl.memory_efficient.block.structure import BranchPaths, UnitPaths, describe_block, register_block
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.lite_residual import LiteResidualModule, insert_lite_residual


def test_inverted_residual():
    block = mobilenet_v2().features[3]
    found = describe_block(block)
    assert found.shortcut and found.activation is None
    assert found.branches == (
        BranchPaths(
            (
                UnitPaths("conv.0.0", "conv.0.1", "conv.0.2"),
                UnitPaths("conv.1.0", "conv.1.1", "conv.1.2"),
                UnitPaths("conv.2", "conv.3"),
            )
        ),
    )
    assert set(found.modules()) == {
        name for name, m in block.named_modules() if name and not list(m.children())
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_block_of_every_backbone(backbone):
    net = BACKBONES[backbone].build(5)
    insert_lite_residual(net, resolution=64)
    for module in net.features:
        found = describe_block(module)
        assert len(found.branches) == 1 + isinstance(module, LiteResidualModule)


def test_lite_residual():
    main = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU())
    found = describe_block(LiteResidualModule(main, 4, 6, downsample_ratio=2, upsample_type="bicubic"))
    assert found.branches[1].pool == "lite_residual.pooling" and found.branches[1].resize == "bicubic"
    assert found.branches[1].units[0] == UnitPaths(
        "lite_residual.conv1", "lite_residual.bn1", "lite_residual.act"
    )
    whole = describe_block(LiteResidualModule(main, 4, 6, downsample_ratio=None))
    assert whole.branches[1].resize is None


def test_residual_blocks():
    net = resnet18()
    assert describe_block(net.layer1[0]).shortcut
    down = describe_block(net.layer2[0])
    assert not down.shortcut and len(down.branches) == 2 and down.activation == "relu"


def test_what_is_no_block():
    squeezing = mobilenet_v3_small().features[1]
    for module in (
        squeezing,
        nn.ReLU(),
        nn.Sequential(),
        nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 1)),
        resnet18(),
    ):
        assert describe_block(module) is None
    assert describe_block(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.GroupNorm(1, 1))) is None
    assert describe_block(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.ReLU())) is None


def test_a_known_class_is_not_registered_again():
    with pytest.raises(ValueError, match="Sequential is registered already"):
        register_block(nn.Sequential, lambda module, prefix: None)
