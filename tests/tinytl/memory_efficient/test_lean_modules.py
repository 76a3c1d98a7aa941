import copy

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint
from torchvision.models import mobilenet_v2

from tinytl.memory_efficient import make_memory_efficient_
from tinytl.memory_efficient.lean_modules import Lean, lean_class
from tinytl.networks.frozen_batch_norm import freeze_bn_


def small_net():
    net = mobilenet_v2(num_classes=3, width_mult=0.25, dropout=0.0)
    freeze_bn_(net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or "classifier" in name)
    return net.double()


def gradients(net, x):
    net.zero_grad()
    F.cross_entropy(net(x), torch.zeros(len(x), dtype=torch.int64)).backward()
    return [p.grad for p in net.parameters() if p.requires_grad]


LEAVES = {
    "conv": (nn.Conv2d(4, 6, 3, padding="same"), (2, 4, 7, 7)),
    "valid": (nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 7, 7)),
    "unbatched": (nn.Conv2d(4, 6, 3), (4, 7, 7)),
    "conv of sequences": (nn.Conv1d(4, 6, 3, 2, padding=1), (2, 4, 7)),
    "conv of volumes": (nn.Conv3d(4, 6, 3, padding="same", groups=2), (2, 4, 5, 6, 7)),
    "unbatched volumes": (nn.Conv3d(4, 6, 3), (4, 5, 6, 7)),
    "transposed of sequences": (nn.ConvTranspose1d(4, 6, 3, 2, 1, 1), (2, 4, 7)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, bias=False), (2, 4, 5, 6)),
    "transposed of volumes": (nn.ConvTranspose3d(4, 6, 3, 2), (2, 4, 3, 4, 5)),
    "more padding than stride": (nn.ConvTranspose2d(4, 6, 3, 2, output_padding=2, dilation=3), (2, 4, 5, 6)),
    "batch norm of vectors": (nn.BatchNorm1d(4).eval(), (3, 4)),
    "batch norm of sequences": (nn.BatchNorm1d(4).eval(), (3, 4, 5)),
    "batch norm of volumes": (nn.BatchNorm3d(4).eval(), (2, 4, 3, 4, 5)),
    "batch statistics of sequences": (nn.BatchNorm1d(4), (3, 4, 5)),
    "leaky": (nn.LeakyReLU(0.2), (2, 4, 3, 3)),
    "leaky in place": (nn.LeakyReLU(0.2, inplace=True), (2, 4)),
    "leaky the other way": (nn.LeakyReLU(-0.2), (2, 4)),
    "batch norm": (nn.BatchNorm2d(4).eval(), (2, 4, 7, 7)),
    "batch statistics": (nn.BatchNorm2d(4), (2, 4, 7, 7)),
    "group norm": (nn.GroupNorm(2, 4), (2, 4, 7, 7)),
    "group norm of sequences": (nn.GroupNorm(2, 4), (2, 4, 7)),
    "relu": (nn.ReLU(), (2, 4)),
    "relu6": (nn.ReLU6(), (2, 4, 3, 3)),
    "hardswish": (nn.Hardswish(), (2, 4, 3, 3)),
    "average": (nn.AvgPool2d(3, 2, 1), (2, 4, 7, 7)),
    "maximum": (nn.MaxPool2d(3, 2, 1), (2, 4, 7, 7)),
    "unbatched maximum": (nn.MaxPool2d(2), (4, 6, 6)),
    "dropout": (nn.Dropout(0.4), (3, 40)),
    "dropout in place": (nn.Dropout(0.4, inplace=True), (3, 40)),
}


@pytest.mark.parametrize("name", LEAVES)
def test_single_modules(assert_same, name):
    module, shape = LEAVES[name]
    stock = copy.deepcopy(module).double()
    lean = copy.deepcopy(stock)
    report = make_memory_efficient_(lean)
    assert list(report.modules) == [""] and isinstance(lean, Lean) and isinstance(lean, type(module))

    def run(one):
        def seeded(x):
            torch.manual_seed(0)
            return one(x * 1)

        return seeded

    assert_same(run(lean), run(stock), [torch.randn(shape, dtype=torch.float64, requires_grad=True)])
    for mine, theirs in zip(lean.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_one_class_for_one_stock_class():
    first, second = nn.ReLU(), nn.ReLU()
    make_memory_efficient_(first), make_memory_efficient_(second)
    assert type(first) is type(second) is lean_class(nn.ReLU, type(first).__mro__[1])


def test_distributed_data_parallel():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        net = small_net()
        lean = copy.deepcopy(net)
        make_memory_efficient_(lean)
        x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
        for mine, theirs in zip(gradients(DistributedDataParallel(lean), x), gradients(net, x), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-12)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_inside_checkpoints(use_reentrant):
    net = small_net()
    lean = copy.deepcopy(net)
    make_memory_efficient_(lean)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)

    def checkpointed(x):
        x = lean.features[0](x)
        for block in lean.features[1:]:
            x = checkpoint(block, x, use_reentrant=use_reentrant)
        return lean.classifier(x.mean((2, 3)))

    expected = gradients(net, x)
    F.cross_entropy(checkpointed(x), torch.zeros(2, dtype=torch.int64)).backward()
    for mine, theirs in zip([p.grad for p in lean.parameters() if p.requires_grad], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-12)


def test_inference_records_nothing():
    lean = small_net()
    make_memory_efficient_(lean)
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        assert lean(x).grad_fn is None
    with torch.inference_mode():
        assert lean(x).grad_fn is None
    assert lean(x).grad_fn is not None


def test_a_transposed_convolution_takes_an_output_size():
    stock = nn.ConvTranspose2d(4, 6, 3, 2, 1).double()
    lean = copy.deepcopy(stock)
    make_memory_efficient_(lean)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    for size in ([9, 12], (10, 11)):
        torch.testing.assert_close(lean(x, output_size=size), stock(x, size))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv1d(4, 4, 3), (2, 4, 9)),
        (nn.Conv3d(4, 4, 3), (2, 4, 5, 5, 5)),
        (nn.ConvTranspose2d(4, 4, 3), (2, 4, 9, 9)),
        (nn.BatchNorm1d(4).eval(), (2, 4, 9)),
        (nn.BatchNorm3d(4).eval(), (2, 4, 5, 5, 5)),
    ],
)
def test_what_is_frozen_keeps_no_input(kept_bytes, module, shape):
    module.weight.requires_grad_(False)
    x = torch.randn(shape, requires_grad=True) * 1
    known = [*module.parameters(), *module.buffers()]
    assert kept_bytes(lambda: module(x), known) >= x.nbytes
    make_memory_efficient_(module)
    assert kept_bytes(lambda: module(x), known) == 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_volumes_stay_in_their_format(layout):
    net = nn.Sequential(nn.Conv3d(4, 6, 3, padding=1), nn.BatchNorm3d(6), nn.LeakyReLU(0.1)).double().eval()
    lean = copy.deepcopy(net)
    make_memory_efficient_(lean)
    x = torch.randn(2, 4, 3, 5, 6, dtype=torch.float64).contiguous(memory_format=layout)
    mine, theirs = lean(x), net(x)
    assert mine.stride() == theirs.stride()
    for y in (mine, theirs):
        y.square().sum().backward()
    for one, other in zip(lean.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
