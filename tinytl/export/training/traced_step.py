"""The training step of a configuration as a list of torch's operations, backward as the engine does it.

`make_fx` runs one step and writes down every operation of it: the forward pass, the loss, and what the
engine's own functions do in backward. So what is kept, as bits or as maps, what is recomputed, and where
backward stops are the engine's, and there is no second description of it. The step is traced in 64 bits, in
which the engine takes no way that serves one processor alone.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.memory_efficient.lean_modules import make_stock_
from tinytl.networks.dropout import dropouts_of, masks_from
from tinytl.training.step import InputNormalizer

CPU = torch.device("cpu")
WHOLE_MIB = 2.0**20
"""As `slice_mib`: a graph walks no slices."""


class Traced(NamedTuple):
    """A graph, and the names of what goes in and comes out, in order."""

    graph: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def lean_network(config: TrainConfig, state: Mapping[str, Tensor]) -> nn.Module:
    """Returns the network of a planned `config` with this state, all lean, in training mode, on the CPU."""
    plain = dataclasses.replace(
        config,
        engine="lean",
        stock_below_kib=0.0,
        slice_mib=WHOLE_MIB,
        memory_format=None,
        weights="none",
        lite_weights=None,
        device="cpu",
    )
    net = build_model(plain).net
    net.load_state_dict(state)
    for module in net.modules():
        if isinstance(module, nn.MaxPool2d):  # the lean one fills a map through views of it
            make_stock_(module)
    return net


def trained_parameters(net: nn.Module) -> dict[str, Tensor]:
    """Returns what trains, by name."""
    return {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}


def traced_step(net: nn.Module, config: TrainConfig) -> Traced:
    """Traces the gradient of the weighted sum of the losses of a micro-batch.

    Inputs: `images` `(N, 3, R, R)` uint8; `labels` `(N,)` int64; `weights` `(N,)`, what multiplies the loss
    of each image; `keep` `(N, F)` if there is dropout, what multiplies each feature before the classifier;
    then every parameter that trains, by its name. Outputs: `loss` and `hits` (of images whose weight is not
    0), both `()`, and `grad:NAME` of every parameter.

    Args:
        net: of `lean_network`; its parameters become 64-bit.
        config: planned. N is `samples_in_memory`.
    """
    net.double().train()
    parameters = trained_parameters(net)
    n, side = config.samples_in_memory, config.resolution
    normalize, drops = InputNormalizer(config, CPU), dropouts_of(net)

    def step(images: Tensor, labels: Tensor, weights: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        own = rest[len(drops) :]
        masks = {drop: keep * (1 - drop.p) for drop, keep in zip(drops, rest, strict=False)}
        with masks_from(masks):
            logits = _logits(net, dict(zip(parameters, own, strict=True)), normalize, images)
        with torch.no_grad():
            classes = torch.arange(logits.shape[1])
            log_p = F.log_softmax(logits, 1)
            even = config.label_smoothing / logits.shape[1]
            shares = (labels.unsqueeze(1) == classes).double() * (1 - config.label_smoothing) + even
            loss = -((log_p * shares).sum(1) * weights).sum()
            grad = (log_p.exp() - shares) * weights.unsqueeze(1)
            hits = ((logits.argmax(1) == labels) & (weights > 0)).sum()
        return loss, hits, *torch.autograd.grad(logits, own, grad)

    images = torch.zeros(n, 3, side, side, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    keeps = [torch.ones(n, drop.features, dtype=torch.float64) for drop in drops]
    own = [parameter.clone().requires_grad_() for parameter in parameters.values()]
    labels, weights = torch.zeros(n, dtype=torch.int64), torch.ones(n, dtype=torch.float64)
    names = ("images", "labels", "weights", *["keep"][: len(drops)], *parameters)
    outputs = ("loss", "hits", *(f"grad:{name}" for name in parameters))
    return Traced(_trace(step, images, labels, weights, *keeps, *own), names, outputs)


def traced_prediction(net: nn.Module, config: TrainConfig) -> Traced:
    """Traces the logits of N images: inputs `images` as of `traced_step`, and the parameters; output `logits`
    `(N, C)`.
    """
    net.double().eval()
    parameters = trained_parameters(net)
    normalize, side = InputNormalizer(config, CPU), config.resolution

    def predict(images: Tensor, *own: Tensor) -> tuple[Tensor]:
        return (_logits(net, dict(zip(parameters, own, strict=True)), normalize, images),)

    images = torch.zeros(config.samples_in_memory, 3, side, side, dtype=torch.uint8)
    with torch.no_grad():
        graph = _trace(predict, images.contiguous(memory_format=torch.channels_last), *parameters.values())
    return Traced(graph, ("images", *parameters), ("logits",))


def _logits(
    net: nn.Module, own: Mapping[str, Tensor], normalize: Callable[[Tensor], Tensor], images: Tensor
) -> Tensor:
    with _Plain():
        found: Tensor = torch.func.functional_call(net, dict(own), (normalize(images).double(),))
    return found


def _trace(step: Callable[..., Any], *inputs: Tensor) -> fx.GraphModule:
    return make_fx(step, tracing_mode="real")(*inputs)


class _Plain(TorchFunctionMode):
    """Global pooling as a mean, and `view += x` as a sum: torch's own also edit strides and memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.adaptive_avg_pool2d and args[1] in (1, (1, 1), [1, 1]):
            return args[0].mean((2, 3), keepdim=True)
        if func is Tensor.add_ and args[0]._is_view():
            return Tensor.add(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
