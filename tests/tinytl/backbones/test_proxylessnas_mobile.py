import torch

from tinytl.backbones import BACKBONES, proxylessnas_mobile


def test_parameters_and_output() -> None:
    net = proxylessnas_mobile.build().eval()
    assert sum(p.numel() for p in net.parameters()) == 4_080_512
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)


def test_kernels_and_strides_of_the_published_network() -> None:
    blocks = [m for m in proxylessnas_mobile.build().get_submodule("features") if hasattr(m, "conv")]
    depthwise = [conv for b in blocks for conv in b.modules() if getattr(conv, "groups", 1) > 1]
    assert [conv.kernel_size[0] for conv in depthwise] == [
        *[3],
        *[5, 3],
        *[7, 3, 5, 5],
        *[7, 5, 5, 5],
        *[5, 5, 5, 5],
        *[7, 7, 7, 7],
        *[7],
    ]
    assert [i for i, conv in enumerate(depthwise) if conv.stride == (2, 2)] == [1, 3, 7, 15]


def test_no_imagenet_weights_are_published() -> None:
    assert BACKBONES["proxylessnas_mobile"].imagenet_state_dict is None
