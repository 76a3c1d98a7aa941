"""Tools that record, copy or watch a network do so with a lean one, too."""

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, fx, nn
from torch.optim.swa_utils import AveragedModel
from torchvision.models.feature_extraction import create_feature_extractor

from tinytl.memory_efficient import Execution, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.block.unit import Recompute

X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
NETS = ("torchvision/mobilenet_v2", "torchvision/resnet18", "timm/mobilenetv3_small_050", "timm/ghostnet_050")


def net_of(name: str) -> nn.Module:
    family, _, short = name.partition("/")
    if family == "timm":
        import timm

        made: nn.Module = timm.create_model(short, num_classes=5)
    else:
        made = torchvision.models.get_model(short, num_classes=5)
    return made.eval()


def _trace(net: nn.Module) -> Tensor:
    return torch.jit.trace(net, X, check_trace=False)(X)


def _trace_without_gradients(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return torch.jit.trace(net, X)(X)


def _record(net: nn.Module) -> Tensor:
    return fx.symbolic_trace(net)(X)


def _extract_features(net: nn.Module) -> Tensor:
    last = list(dict(net.named_children()))[-1]
    return create_feature_extractor(net, {last: "y"})(X)["y"]


def _average(net: nn.Module) -> Tensor:
    average = AveragedModel(net)
    average.update_parameters(net)
    return average(X)


def _watch(net: nn.Module) -> Tensor:
    seen: list[str] = []
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _module, _inputs, _output, name=name: seen.append(name))
    lean, of_lean = net(X), list(seen)
    undo_memory_efficient_(net)
    seen.clear()
    net(X)
    assert of_lean == seen
    return lean


def _export(net: nn.Module) -> Tensor:
    return torch.export.export(net, (X,)).module()(X)


TOOLS: tuple[Callable[[nn.Module], Tensor], ...] = (
    _trace,
    _trace_without_gradients,
    _record,
    _extract_features,
    _average,
    _watch,
    pytest.param(_export, marks=pytest.mark.slow),
)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__.strip("_"))
def test_a_tool_finds_what_the_stock_network_computes(tool: Callable[[nn.Module], Tensor], name: str) -> None:
    torch.manual_seed(0)
    stock = net_of(name)
    lean = copy.deepcopy(stock)
    make_memory_efficient_(lean)
    with torch.no_grad():
        expected = stock(X)
    torch.testing.assert_close(tool(lean).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("recompute", ["none", "block"])
@pytest.mark.parametrize("name", ["timm/ghostnet_050", "torchvision/mobilenet_v3_small"])
def test_a_compiled_lean_network_trains_with_the_gradients_of_stock(name: str, recompute: Recompute) -> None:
    torch.manual_seed(0)
    stock = net_of(name).double()
    lean = copy.deepcopy(stock)
    make_memory_efficient_(lean, Execution(recompute=recompute))
    torch.compiler.reset()  # behind its limit of compilations it would run the code as it is
    x = torch.cat([X, X.flip(3)]).double()
    torch.compile(lean, backend="eager")(x).sum().backward()
    stock(x).sum().backward()
    for one, other in zip(lean.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_script_is_refused_and_possible_once_undone() -> None:
    net = net_of("torchvision/resnet18")
    make_memory_efficient_(net)
    with pytest.raises(RuntimeError, match="undo_memory_efficient_"):
        torch.jit.script(net)
    undo_memory_efficient_(net)
    assert isinstance(torch.jit.script(net), torch.jit.ScriptModule)
