"""Any image classifier as `features`, a sequence of blocks, and `classifier`, as our own networks are.

What a module does is read by torch.fx with its children as they are: if each gets what the one before made,
the module is a chain and may be taken apart. A class of which one instance is no chain, as it adds its input,
is a class of blocks. Stem, blocks, what lies between, and all from the last block to the classifier become
children of `features`. Timm's norms with activations become a norm and an activation, so that each norm is a
plain batch norm, which surgery knows.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from tinytl.errors import ConfigError
from tinytl.networks.backbones.inverted_residual import full_name
from tinytl.networks.backbones.known_blocks import is_known_block
from tinytl.networks.surgery import replace_modules_

BATCH_NORM_ACT = "timm.layers.norm_act.BatchNormAct2d"
"""timm's batch norm with an activation, its child `act`, and a dropout before that, `drop`."""
_RANDOM_DEPTH = (
    "timm.layers.drop.DropPath",
    "timm.layers.drop.DropBlock2d",
    "torchvision.ops.stochastic_depth.StochasticDepth",
    "transformers.models.convnext.modeling_convnext.ConvNextDropPath",
    "transformers.models.convnextv2.modeling_convnextv2.ConvNextV2DropPath",
)
"""Modules that draw random numbers while they train, beside torch's own dropout."""


class Step(NamedTuple):
    """A link of a chain: a module, or a call of a function on the tensor so far."""

    name: str
    """The module's name in the network; of a call, the function's."""
    module: nn.Module


class Call(nn.Module):
    """A function, or a tensor's method, of one tensor and constants."""

    def __init__(self, function: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]):
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs

    def forward(self, x: Tensor) -> Any:
        """Calls it with `x` first."""
        if isinstance(self.function, str):
            return getattr(x, self.function)(*self.args, **self.kwargs)
        return self.function(x, *self.args, **self.kwargs)

    def extra_repr(self) -> str:
        """Names the function."""
        return self.function if isinstance(self.function, str) else self.function.__name__


class BlockGeometry(NamedTuple):
    """What a block makes of its map."""

    place: int
    """Its index in `features`."""
    in_channels: int
    out_channels: int
    stride: int
    scale: float
    """The side of the network's input over that of the block's."""


class SequenceNet(nn.Module):
    """`features`: stem, blocks and the way to a vector; `classifier`: dropout, linear.

    Input `(N, 3, H, W)`, output logits `(N, num_classes)`.
    """

    def __init__(
        self, features: Sequence[nn.Module], linear: nn.Linear, blocks: Sequence[BlockGeometry]
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), linear)
        self.blocks = tuple(blocks)
        """Those of `features` that are blocks."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits."""
        return self.classifier(self.features(x))


@dataclass(frozen=True)
class Layout:
    """Where the modules of a classifier go, by their names in it."""

    features: tuple[tuple[str, ...], ...]
    """The links of each child of `features`; a name that is no module's is a call's, see `calls`."""
    blocks: tuple[BlockGeometry, ...]
    linear: str
    calls: Mapping[str, Call]


def split_norms_(net: nn.Module) -> None:
    """Replaces each of timm's norms with activations by a sequence of norm, dropout and activation."""

    def split(_: str, norm: nn.Module) -> nn.Module:
        assert isinstance(norm, nn.BatchNorm2d)
        plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps, momentum=norm.momentum, affine=norm.affine)
        for name, parameter in norm.named_parameters(recurse=False):
            setattr(plain, name, parameter)
        for name, buffer in norm.named_buffers(recurse=False):
            plain.register_buffer(name, buffer)
        plain.training = norm.training
        children = [norm.get_submodule("drop"), norm.get_submodule("act")]
        after = [child for child in children if not isinstance(child, nn.Identity)]
        return nn.Sequential(plain, *after) if after else plain

    replace_modules_(net, lambda _, module: full_name(type(module)) == BATCH_NORM_ACT, split)


def remove_chance_(net: nn.Module) -> None:
    """Replaces dropout and stochastic depth by nothing: a gradient is to be the same, however a batch is cut
    into micro-batches.
    """
    replace_modules_(net, lambda _, module: draws_numbers(type(module)), lambda *_: _NoDropout())


class _NoDropout(nn.Identity):
    """In the place of a dropout whose rate a net's own code reads."""

    p = 0.0


def draws_numbers(cls: type[nn.Module]) -> bool:
    """Whether modules of a class draw random numbers while they train."""
    return issubclass(cls, nn.modules.dropout._DropoutNd) or full_name(cls) in _RANDOM_DEPTH


def layout_of(net: nn.Module, what: str, example: Tensor) -> Layout:
    """Returns how `net`, whose norms are split, is taken apart. It runs on an `example`, in evaluation mode.

    `what` names it in errors.

    Raises:
        ConfigError: if `net` is no chain of modules, or does not end in a linear layer.
    """
    modules = dict(net.named_modules())
    classes = _block_classes(net)
    links: list[Step] = []
    if not _unroll("", net, classes, links):
        raise ConfigError(f"{what}: its body is no sequence of blocks, so it cannot be a backbone here")
    last = next((i for i in reversed(range(len(links))) if isinstance(links[i].module, nn.Linear)), None)
    after = [] if last is None else [link for link in links[last + 1 :] if not _does_nothing(link.module)]
    if last is None or after:
        raise ConfigError(f"{what}: it does not end in a linear layer, so its head cannot be replaced")
    before = [link for link in links[:last] if not _is_dropout(link.module)]
    places = [i for i, link in enumerate(before) if type(link.module) in classes]
    if not places:
        raise ConfigError(f"{what}: it has no blocks: its layers do not repeat as residuals")
    shapes = _shapes(net, [before[place].name for place in places], example)
    features: list[tuple[str, ...]] = []
    blocks: list[BlockGeometry] = []
    if places[0] > 0:
        features.append(tuple(link.name for link in before[: places[0]]))
    for index in range(places[0], places[-1] + 1):
        if index in places:
            blocks.append(BlockGeometry(len(features), *shapes[before[index].name]))
        features.append((before[index].name,))
    if places[-1] + 1 < len(before):
        features.append(tuple(link.name for link in before[places[-1] + 1 :]))
    calls = {link.name: link.module for link in before if link.name not in modules}
    return Layout(tuple(features), tuple(blocks), links[last].name, calls)  # type: ignore[arg-type]


def as_sequence(net: nn.Module, layout: Layout) -> SequenceNet:
    """Returns the modules of `net`, whose norms are split, as `layout` says. They are the same objects."""
    modules = dict(net.named_modules())

    def made(names: tuple[str, ...]) -> nn.Module:
        found: list[nn.Module] = [layout.calls.get(name) or modules[name] for name in names]
        return found[0] if len(found) == 1 and names[0] in modules else nn.Sequential(*found)

    linear = modules[layout.linear]
    assert isinstance(linear, nn.Linear)
    return SequenceNet([made(names) for names in layout.features], linear, layout.blocks)


def _block_classes(net: nn.Module) -> set[type[nn.Module]]:
    """Returns the outermost classes that are known as blocks, or of which one instance is no chain."""
    found: set[type[nn.Module]] = set()
    _find_blocks(net, found)
    return found


def _find_blocks(module: nn.Module, found: set[type[nn.Module]]) -> None:
    for child in module.children():
        if type(child) in found or next(child.children(), None) is None:
            continue
        if is_known_block(type(child)) or _chain(child) is None:
            found.add(type(child))
    for child in module.children():
        if type(child) not in found:
            _find_blocks(child, found)


def _unroll(name: str, module: nn.Module, classes: set[type[nn.Module]], links: list[Step]) -> bool:
    """Appends the links of a chain, taken apart as far as it holds blocks or the classifier."""
    chain = _chain(module)
    if chain is None:
        return False
    for child_name, link in chain:
        whole = f"{name}.{child_name}" if name else child_name
        if isinstance(link, Call):
            links.append(Step(f"{whole}()", link))
            continue
        holds = any(type(one) in classes or isinstance(one, nn.Linear) for one in link.modules())
        if type(link) in classes or next(link.children(), None) is None or not holds:
            links.append(Step(whole, link))
        elif not _unroll(whole, link, classes, links):
            return False
    return True


@torch.no_grad()
def _shapes(net: nn.Module, names: Sequence[str], example: Tensor) -> dict[str, tuple[int, int, int, float]]:
    """Returns channels in and out, stride, and how often smaller its map is, of each block."""
    found: dict[str, tuple[int, int, int, float]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            x = inputs[0]
            stride = round(x.shape[2] / output.shape[2])
            found[name] = x.shape[1], output.shape[1], stride, example.shape[2] / x.shape[2]

        return hook

    handles = [net.get_submodule(name).register_forward_hook(note(name)) for name in names]
    try:
        net(example)
    finally:
        for handle in handles:
            handle.remove()
    return found


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _chain(module: nn.Module) -> list[Step] | None:
    """Returns what `module` calls, one after the other, its children whole; None if it is no chain."""
    if type(module).forward is nn.Sequential.forward:
        return [Step(name, child) for name, child in module.named_children()]
    graph = trace_children(module)
    if graph is None:
        return None
    steps: list[Step] = []
    first, *nodes = graph.nodes
    last, beside = first, set[fx.Node]()
    for node in nodes:
        inputs = set(node.all_input_nodes)
        if node.op == "output":
            return steps if node.args[0] is last else None
        if inputs <= beside:  # the other arguments, and what checks them
            beside.add(node)
        elif inputs != {last} or node.args[0] is not last:
            return None
        elif node.op == "call_module":
            steps.append(Step(str(node.target), module.get_submodule(str(node.target))))
            last = node
        elif node.op in ("call_function", "call_method"):
            steps.append(Step(node.name, Call(node.target, node.args[1:], dict(node.kwargs))))
            last = node
        else:
            return None
    return None


def trace_children(module: nn.Module) -> fx.Graph | None:
    """Returns what a module's forward calls, its children whole, other arguments than the first as their
    defaults; None if torch.fx cannot follow it.
    """
    given = {
        name: parameter.default
        for name, parameter in list(inspect.signature(module.forward).parameters.items())[1:]
        if parameter.default is not inspect.Parameter.empty
    }
    try:
        return _Tracer().trace(module, concrete_args=given)
    except Exception:  # its code reads the numbers of a tensor, or does what fx cannot follow
        return None


def _does_nothing(module: nn.Module) -> bool:
    return isinstance(module, nn.Identity | nn.Flatten)


def _is_dropout(module: nn.Module) -> bool:
    if isinstance(module, Call):
        return getattr(module.function, "__name__", "") == "dropout"
    return isinstance(module, nn.Dropout | nn.Identity)
