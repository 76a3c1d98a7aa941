import copy
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from tests.support.sampled import sampled
from tinytl.config.names import ACT_FUNCS, UPSAMPLE_TYPES
from tinytl.device import gpu_emulated
from tinytl.errors import ConfigError
from tinytl.memory_efficient import make_memory_efficient_
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.backbones.inverted_residual import BlockSpec, InvertedResidual
from tinytl.networks.frozen_batch_norm import freeze_bn_
from tinytl.networks.group_norm import replace_bn_with_gn
from tinytl.networks.lite_residual import (
    ACTIVATIONS,
    AvgPoolWithinMap,
    LiteResidualModule,
    check_groups_of_net,
    check_n_groups,
    insert_lite_residual,
    make_divisible,
)

FIRST_WRAPPED = 2  # features.0 is the stem, features.1 the first inverted residual
LAST_WRAPPED = {"efficientnet_lite0": 16, "mobilenet_v2": 17, "proxylessnas_mobile": 20}


def _image(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _wrapped(net: nn.Module) -> dict[str, LiteResidualModule]:
    return {name: m for name, m in net.named_modules() if isinstance(m, LiteResidualModule)}


def test_signatures_are_the_contract_s() -> None:
    module = {k: p.default for k, p in inspect.signature(LiteResidualModule).parameters.items()}
    assert module == {
        "main_branch": inspect.Parameter.empty,
        "in_channels": inspect.Parameter.empty,
        "out_channels": inspect.Parameter.empty,
        "expand": 1.0,
        "kernel_size": 3,
        "act_func": "relu",
        "n_groups": 2,
        "downsample_ratio": 2,
        "upsample_type": "bilinear",
        "stride": 1,
    }
    insert = list(inspect.signature(insert_lite_residual).parameters.values())
    assert {p.name: p.default for p in insert if p.kind is p.POSITIONAL_OR_KEYWORD} == {
        "net": inspect.Parameter.empty,
        "downsample_ratio": 2,
        "upsample_type": "bilinear",
        "expand": 1.0,
        "max_kernel_size": 3,
        "act_func": "relu",
        "n_groups": 2,
    }


@pytest.mark.parametrize("act_func", ACT_FUNCS)
@pytest.mark.parametrize("upsample_type", UPSAMPLE_TYPES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("downsample_ratio", [None, 1, 2, 4])
def test_starts_as_its_main_branch_and_then_adds(
    act_func: str, upsample_type: str, stride: int, downsample_ratio: int | None
) -> None:
    main = nn.Conv2d(8, 16, 3, stride, 1)
    module = LiteResidualModule(
        main,
        8,
        16,
        act_func=act_func,
        upsample_type=upsample_type,
        stride=stride,
        downsample_ratio=downsample_ratio,
    )
    x = _image(2, 8, 9, 9)
    assert torch.equal(module(x), main(x))
    nn.init.ones_(module.lite_residual.get_parameter("final_bn.weight"))
    added = module(x) - main(x)
    assert added.shape == main(x).shape
    assert added.abs().max() > 0.1


FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: x.clamp(0, 6),
    "h_swish": lambda x: x * (x + 3).clamp(0, 6) / 6,
    "h_sigmoid": lambda x: (x + 3).clamp(0, 6) / 6,
    "tanh": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "none": lambda x: x,
}


def _plain_norm(x: Tensor, norm: nn.Module) -> Tensor:
    assert isinstance(norm, nn.GroupNorm)
    grouped = x.reshape(len(x), norm.num_groups, -1)
    mean, var = grouped.mean(2, keepdim=True), grouped.var(2, correction=0, keepdim=True)
    unit = ((grouped - mean) / (var + norm.eps).sqrt()).reshape(x.shape)
    return unit * norm.weight[:, None, None] + norm.bias[:, None, None]


def _plain_convolution(x: Tensor, conv: nn.Module) -> Tensor:
    assert isinstance(conv, nn.Conv2d)
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    size = [(side - 1) // stride + 1 for side in x.shape[2:]]
    inputs = F.unfold(x, kernel, padding=kernel // 2, stride=stride)
    weight = conv.weight.reshape(conv.groups, conv.out_channels // conv.groups, -1)
    inputs = inputs.reshape(len(x), conv.groups, weight.shape[2], -1)
    return torch.einsum("gok,ngkp->ngop", weight, inputs).reshape(len(x), conv.out_channels, *size)


def _plain_module(module: LiteResidualModule, x: Tensor, ratio: int | None, act_func: str) -> Tensor:
    """The module by its definition, with the module's own parameters."""
    layers = dict(module.lite_residual.named_children())
    main = module.main_branch(x)
    height, width = x.shape[2:]
    window = min(ratio or 10**9, height, width)
    if ratio is None:
        pooled = x.sum((2, 3), keepdim=True) / (height * width)
    else:
        rows, columns = height // window, width // window
        whole = x[:, :, : rows * window, : columns * window]
        pooled = whole.reshape(*x.shape[:2], rows, window, columns, window).mean((3, 5))
    lite = FORMULAS[act_func](_plain_norm(_plain_convolution(pooled, layers["conv1"]), layers["bn1"]))
    lite = _plain_norm(_plain_convolution(lite, layers["conv2"]), layers["final_bn"])
    if ratio is None:
        return main + lite
    if module.upsample_type == "nearest":
        rows_of, columns_of = (
            torch.arange(new) * old // new for new, old in zip(main.shape[2:], lite.shape[2:], strict=True)
        )
        return main + lite[:, :, rows_of][:, :, :, columns_of]
    return main + F.interpolate(lite, main.shape[2:], mode=module.upsample_type, align_corners=False)


def _outcome(output: Tensor, module: nn.Module, x: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    grads = torch.autograd.grad((output * weights).sum(), [x, *module.parameters()])
    return [output.detach(), *grads]


def _module(
    ratio: int | None, upsample_type: str, act_func: str, stride: int, expand: float, kernel: int
) -> LiteResidualModule:
    main = InvertedResidual(8, BlockSpec(8 * stride, 3, stride, 2), 1e-5, same_pad=kernel == 5)
    module = LiteResidualModule(
        main, 8, 8 * stride, expand, kernel, act_func, 2, ratio, upsample_type, stride
    )
    replace_bn_with_gn(module.lite_residual, 4)
    freeze_bn_(module)
    for name, parameter in module.named_parameters():
        if "bn" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    module.double().train()
    return module


@pytest.mark.parametrize(
    ("upsample_type", "act_func", "engine"),
    sampled(itertools.product(UPSAMPLE_TYPES, ACT_FUNCS, ("lean", "stock")), 11),
)
def test_is_its_definition_in_every_option(upsample_type: str, act_func: str, engine: str) -> None:
    torch.manual_seed(0)
    shapes = ((0.25, 3, (9, 7)), (1.0, 5, (5, 5)), (2.0, 3, (3, 2)), (1.0, 3, (1, 1)))
    for ratio, stride, (expand, kernel, size) in itertools.product((None, 1, 2, 4), (1, 2), shapes):
        module = _module(ratio, upsample_type, act_func, stride, expand, kernel)
        x = torch.randn(2, 8, *size, dtype=torch.float64, requires_grad=True)
        expected = _outcome(_plain_module(module, x, ratio, act_func), module, x)
        if engine == "lean":
            report = make_memory_efficient_(module)
            assert report.blocks == [""] and not report.left
        output = module(x)
        assert (output.grad_fn.name() == "BlockFunctionBackward") == (engine == "lean")
        for mine, plain in zip(_outcome(output, module, x), expected, strict=True):
            assert torch.allclose(mine, plain, rtol=1e-10, atol=1e-10), (ratio, stride, size)


def test_layers_in_order() -> None:
    lite = LiteResidualModule(nn.Identity(), 24, 40, expand=2, kernel_size=5, n_groups=4, stride=2)
    layers = dict(lite.lite_residual.named_children())
    assert list(layers) == ["pooling", "conv1", "bn1", "act", "conv2", "final_bn"]
    conv1, conv2, pooling = layers["conv1"], layers["conv2"], layers["pooling"]
    assert isinstance(conv1, nn.Conv2d) and isinstance(conv2, nn.Conv2d) and isinstance(pooling, nn.AvgPool2d)
    assert (conv1.in_channels, conv1.out_channels, conv1.groups) == (24, 48, 4)
    assert (conv1.kernel_size, conv1.stride, conv1.padding, conv1.bias) == ((5, 5), (2, 2), (2, 2), None)
    assert (conv2.in_channels, conv2.out_channels, conv2.kernel_size, conv2.bias) == (48, 40, (1, 1), None)
    assert (pooling.kernel_size, pooling.stride) == (2, 2)
    assert isinstance(layers["act"], nn.ReLU)


def test_without_downsample_ratio_one_pixel_is_added_everywhere() -> None:
    module = LiteResidualModule(nn.Identity(), 8, 8, kernel_size=5, downsample_ratio=None)
    assert isinstance(module.lite_residual.get_submodule("pooling"), nn.AdaptiveAvgPool2d)
    assert module.lite_residual.get_submodule("conv1").kernel_size == (1, 1)
    nn.init.ones_(module.lite_residual.get_parameter("final_bn.weight"))
    x = _image(2, 8, 6, 6)
    added = module(x) - x
    assert added.abs().max() > 0.1
    assert torch.allclose(added, added[:, :, :1, :1].expand_as(added), atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_groups": 3}, "n_groups=3 does not divide the 8 input channels of the lite residual"),
        ({"act_func": "gelu"}, "unknown act_func 'gelu'"),
        ({"upsample_type": "linear"}, "unknown upsample_type 'linear': did you mean 'bilinear'?"),
    ],
)
def test_bad_arguments(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        LiteResidualModule(nn.Identity(), 8, 8, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_inverted_residual_but_the_first_is_wrapped(backbone: str) -> None:
    net = BACKBONES[backbone].build(10).eval()
    x = _image(2, 3, 64, 64)
    before = net(x)
    names = insert_lite_residual(net, resolution=64)
    assert names == [f"features.{i}" for i in range(FIRST_WRAPPED, LAST_WRAPPED[backbone] + 1)]
    assert list(_wrapped(net)) == names
    assert torch.equal(net(x), before)
    assert insert_lite_residual(net) == []
    assert list(_wrapped(net)) == names


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("resolution", "ratio"), [(32, 1), (33, 2), (47, 4), (64, 8), (64, None)])
def test_every_resolution_and_ratio_runs(backbone: str, resolution: int, ratio: int | None) -> None:
    net = BACKBONES[backbone].build(10)
    insert_lite_residual(net, ratio, max_kernel_size=7, n_groups=1, resolution=resolution)
    assert net.eval()(torch.zeros(1, 3, resolution, resolution)).shape == (1, 10)


def test_a_map_smaller_than_the_window_is_pooled_whole() -> None:
    # Without the image's resolution, the reference's rule pools by 4 where a 64 px image leaves 2 pixels.
    net = BACKBONES["mobilenet_v2"].build(10)
    insert_lite_residual(net, downsample_ratio=4)
    assert net.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10)
    pool = AvgPoolWithinMap(4)
    x = _image(2, 3, 2, 9)
    assert torch.equal(pool(x), F.avg_pool2d(x, 2))
    assert torch.equal(pool(x.repeat(1, 1, 3, 1)), F.avg_pool2d(x.repeat(1, 1, 3, 1), 4))


def _kernels_and_pooling(
    resolution: int | None, ratio: int | None, kernel_size: int
) -> list[tuple[int, int | None]]:
    """Distinct (kernel, pooling) from the first block to the last of MobileNetV2, whose maps halve after
    blocks 2, 4, 7 and 14 (strides 2)."""
    with torch.device("meta"):
        net = BACKBONES["mobilenet_v2"].build(10)
    insert_lite_residual(net, ratio, max_kernel_size=kernel_size, resolution=resolution)
    found = [
        (m.lite_residual.get_submodule("conv1").kernel_size[0], m.downsample_ratio)
        for m in _wrapped(net).values()
    ]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(
    ("resolution", "ratio", "kernel_size", "expected"),
    [
        # Inputs of the blocks are maps of 112, 56, 28, 14 and 7 pixels; pooled 56, 28, 14, 7 and 3.
        (224, 2, 5, [(5, 2), (3, 2)]),
        (224, 2, 7, [(7, 2), (3, 2)]),
        (224, 4, 7, [(7, 4), (3, 4), (1, None)]),
        # 32, 16, 8, 4, 2; pooled 16, 8, 4, 2 and 1.
        (64, 2, 5, [(5, 2), (3, 2), (1, 2), (1, None)]),
        (64, 1, 3, [(3, 1), (1, 1)]),
        (64, None, 3, [(1, None)]),
        # 36, 18, 9, 5, 3: sizes round up.
        (72, 1, 5, [(5, 1), (3, 1)]),
        # The reference's rule, whatever the image: 128, 64, 32, 16, 8; pooled 64 to 4.
        (None, 2, 5, [(5, 2), (3, 2)]),
        (None, 8, 5, [(5, 8), (3, 8), (1, 8), (1, None)]),
    ],
)
def test_kernels_shrink_with_the_map(
    resolution: int | None, ratio: int | None, kernel_size: int, expected: list[tuple[int, int | None]]
) -> None:
    assert _kernels_and_pooling(resolution, ratio, kernel_size) == expected


@pytest.mark.parametrize(
    ("n_groups", "expand", "message"),
    [
        (5, 1.0, "n_groups=5 does not divide the 16 input channels of features.2"),
        (16, 1.0, "n_groups=16 does not divide the 24 input channels of features.3"),
        (16, 1.5, "n_groups=16 does not divide the 24 lite residual channels of features.2"),
    ],
)
def test_n_groups_that_does_not_divide_names_the_block(n_groups: int, expand: float, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        insert_lite_residual(BACKBONES["mobilenet_v2"].build(10), n_groups=n_groups, expand=expand)


@pytest.mark.parametrize(
    ("value", "expected"), [(1, 8), (8, 8), (11.9, 16), (12, 16), (10, 16), (24, 24), (34, 32), (36, 40)]
)
def test_make_divisible(value: float, expected: int) -> None:
    assert make_divisible(value, 8) == expected


def test_groups_of_a_net_are_checked_before_any_block_is_wrapped() -> None:
    net = BACKBONES["mobilenet_v2"].build(10)
    check_groups_of_net(net, 8, 1.0)
    with pytest.raises(ConfigError, match=r"^n_groups=16 does not divide the 24 input channels of"):
        insert_lite_residual(net, n_groups=16)
    assert not _wrapped(net)
    with pytest.raises(ConfigError, match=r"^n_groups=16 does not divide the 8 lite residual channels of"):
        check_groups_of_net(net, 16, 0.25)


def test_check_n_groups_accepts_divisors() -> None:
    check_n_groups(4, 8, 16, "here")


def test_the_method_of_the_reports_inserts_and_tells_what_each_was_made_with() -> None:
    net, other = (BACKBONES["mobilenet_v2"].build(5) for _ in range(2))
    given: dict[str, Any] = {"downsample_ratio": 4, "expand": 0.5, "act_func": "h_swish", "n_groups": 4}
    names = LiteResidualModule.insert_lite_residual(net, **given, max_kernel_size=5)
    assert names == insert_lite_residual(other, **given, max_kernel_size=5) and len(names) == 16
    assert str(net) == str(other)
    config = net.features[5].lite_residual_config
    assert config == LiteResidualModule(nn.Identity(), **config).lite_residual_config
    assert config == given | {
        "in_channels": 32,
        "out_channels": 32,
        "kernel_size": 5,
        "upsample_type": "bilinear",
        "stride": 1,
    }
    assert copy.deepcopy(net.features[5]).lite_residual_config == config
    with pytest.warns(UserWarning, match="^insert_lite_residual has no use for model, size$"):
        LiteResidualModule.insert_lite_residual(BACKBONES["mobilenet_v2"].build(5), model="x", size=1)


@pytest.mark.parametrize(
    "net",
    [nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Linear(2, 2), resnet18()],
    ids=lambda net: type(net).__name__,
)
@pytest.mark.parametrize("resolution", [None, 64])
def test_a_net_without_inverted_residuals_is_refused(net: nn.Module, resolution: int | None) -> None:
    before = str(net)
    with pytest.raises(ConfigError, match=rf"as in MobileNetV2: this {type(net).__name__} has none$"):
        insert_lite_residual(net, resolution=resolution)
    assert str(net) == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_h_sigmoid_is_that_of_the_reports(dtype: torch.dtype) -> None:
    """Torch's own has a gradient of 1/6 in float32: norms of one pixel made 7 % of that difference."""
    x = torch.linspace(-4, 4, 65, dtype=dtype).requires_grad_()
    mine, theirs = ACTIVATIONS["h_sigmoid"]()(x), F.relu6(x + 3) / 6
    assert torch.equal(mine, theirs)
    assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in (mine, theirs)))


@pytest.mark.parametrize("upsample_type", UPSAMPLE_TYPES)
@pytest.mark.parametrize("engine", ["lean", "stock"])
def test_a_gpu_s_path_has_the_gradients_of_a_cpu_s(upsample_type: str, engine: str) -> None:
    torch.manual_seed(0)
    module = _module(2, upsample_type, "relu", 2, 1.0, 3)
    if engine == "lean":
        make_memory_efficient_(module)
    x = torch.randn(2, 8, 9, 7, dtype=torch.float64, requires_grad=True)
    expected = _outcome(module(x), module, x)
    with gpu_emulated():
        found = _outcome(module(x), module, x)
    for mine, plain in zip(found, expected, strict=True):
        assert torch.allclose(mine, plain, rtol=1e-10, atol=1e-10)
