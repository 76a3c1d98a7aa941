"""Weights that are stored in another form than they are used in, and convolutions that train in part.

A frozen weight may be stored in 16 or 8 bits, and of a convolution's input channels only some may train. In
both cases the float weight is made when it is used, and dropped after. Eight bits are symmetric: a float32
scale per output channel, the channel's largest magnitude over 127.
Source: Jacob et al. 2018 (per-channel scales: Krishnamoorthi 2018); MCUNetV3, Lin et al. 2022, section 3.2
(sparse tensor update: some input channels of a layer).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tinytl.config.names import FROZEN_WEIGHTS
from tinytl.errors import choose
from tinytl.networks.backbones.inverted_residual import SamePadConv2d
from tinytl.networks.surgery import set_class_
from tinytl.networks.weight_standardization import WeightStandardizedConv2d

LARGEST = 127
"""Of the numbers of 8 bits; -128 stays unused, so that they are symmetric."""
_TYPES: Mapping[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16, "int8": torch.int8}
_BUFFERS = ("frozen_weight", "weight_scale", "trained_channels", "channel_places")


class TrainedChannels(NamedTuple):
    """Which channels of a weight train: input channels, or of a depthwise convolution the output's rows."""

    chosen: Tensor
    """`(n,)` int64, rising."""
    places: Tensor
    """`(C,)` int64: where each channel is, in the frozen channels followed by the trained ones."""
    dim: int
    """Dimension of the weight: 1, or 0 if it is depthwise."""


class StoredForm(NamedTuple):
    """What a weight is made of, beside its trained part."""

    frozen: Tensor
    """`(C', C, ...)` float32, bfloat16 or int8; without the trained channels if there are some."""
    scale: Tensor | None
    """`(C',)`, by which int8 is multiplied; None for other types."""
    trained: TrainedChannels | None

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weight that is made."""
        if self.scale is not None:
            return self.scale.dtype
        return self.frozen.dtype if self.frozen.dtype.itemsize >= 4 else torch.float32

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that is made."""
        shape = list(self.frozen.shape)
        if self.trained is not None:
            shape[self.trained.dim] = self.trained.places.shape[0]
        return tuple(shape)

    @property
    def scale_is_apart(self) -> bool:
        """Whether the weight is `unscaled` times a factor per filter: not if a part of it trains."""
        return self.scale is not None and self.trained is None

    def unscaled(self) -> Tensor:
        """Returns the frozen channels as floats, not yet multiplied by `scale`; in new memory if they are not
        float32.
        """
        frozen, dtype = self.frozen, self.dtype
        return frozen if frozen.dtype is dtype else frozen.to(dtype)

    def whole(self, part: Tensor | None) -> Tensor:
        """Returns the weight, in new memory if it is not stored so. `part` holds the trained channels, and
        gets their gradient.
        """
        made = self.unscaled()
        if self.scale is not None:
            made = made.mul_(per_filter(self.scale, made))
        if self.trained is None:
            return made
        assert part is not None
        return cast(Tensor, _JoinFunction.apply(made, part, self.trained))


class StoredWeight(nn.Module):
    """What modules with a stored weight share: `weight` is made anew whenever it is read.

    Parameters: `weight_part` `(C', n, ...)` if `n` input channels train (`(n, 1, ...)` of a depthwise
    convolution), and the module's own bias. Buffers: `frozen_weight`, `weight_scale` for int8,
    `trained_channels` and `channel_places` if there is a part.
    """

    whole_class: type[nn.Module]
    """The class that the module had."""

    @property
    def weight(self) -> Tensor:
        """The weight `(C', C, ...)` as floats, through which `weight_part` gets its gradient."""
        return stored_form(vars(self)).whole(trained_part(self))


class StoredConv2d(StoredWeight, nn.Conv2d):  # type: ignore[override]
    """A convolution with a stored weight."""

    whole_class = nn.Conv2d


class StoredSamePadConv2d(StoredWeight, SamePadConv2d):  # type: ignore[override]
    """As above, for a convolution that pads by the map's size."""

    whole_class = SamePadConv2d


class StoredLinear(StoredWeight, nn.Linear):  # type: ignore[override]
    """A linear layer with a stored weight."""

    whole_class = nn.Linear


_STORED: Mapping[type[nn.Module], type[StoredWeight]] = {
    stored.whole_class: stored for stored in (StoredConv2d, StoredSamePadConv2d, StoredLinear)
}


def store_frozen_weights_(net: nn.Module, form: str) -> list[str]:
    """Stores every frozen weight of a convolution or linear layer as `form`, in place; returns the names.

    `float32`, `bfloat16` or `int8`. Of a convolution that trains in part, the frozen channels. Weights that
    train, biases, norms and statistics stay float32, as do modules of other classes. In `float32`, a weight
    without a trained part is a plain parameter again. Call it once `requires_grad` is set and weights are
    loaded, before the net is made memory-efficient.
    """
    form = choose("frozen_weights", form, FROZEN_WEIGHTS)
    names = []
    for name, module in net.named_modules():
        if isinstance(module, StoredWeight):
            if form == "float32" and trained_part(module) is None:
                _make_whole_(module)
            else:
                _store_(module, _frozen_channels(module), form)
        elif form == "float32" or type(module) not in _STORED or _weight_of(module).requires_grad:
            continue
        else:
            _begin_(module, _weight_of(module).detach(), form)
        names.append(name)
    return names


def train_channels_(conv: nn.Conv2d, channels: Sequence[int]) -> None:
    """Makes `conv` train these input channels of its weight and no others, in place.

    Of a depthwise convolution, whose filters have one input channel each: these filters. All channels: the
    plain weight trains. May be called again for other channels: what was trained stays in the weight. For
    the same number of channels `weight_part` stays the same parameter. Fewer channels need less memory: only
    their input is kept for backward, only their gradients and moments exist.

    Raises:
        ValueError: for no channels, one that the weight has not, or one named twice; for a grouped
            convolution that is not depthwise; and for a standardised weight, whose every value depends on
            all of its filter.
    """
    dim, count = _channels_of(conv)
    chosen = sorted(int(channel) for channel in channels)
    if not chosen or len(set(chosen)) < len(chosen) or chosen[0] < 0 or chosen[-1] >= count:
        raise ValueError(f"channels={chosen} of a convolution with {count}: give some of 0 to {count - 1}")
    if len(chosen) == count:
        if isinstance(conv, StoredWeight):
            _make_whole_(conv)
        conv.weight.requires_grad_(True)
        return
    weight, form = conv.weight.detach(), "float32"
    if isinstance(conv, StoredWeight):
        form = _form_of(conv)
    elif type(conv) not in _STORED:
        raise ValueError(f"a {type(conv).__name__} cannot train in part: choose channels of a plain Conv2d")
    else:
        _begin_(conv, weight, form)
    _train_(conv, weight, chosen, dim)
    rest = _others(chosen, count)
    _store_(conv, weight.index_select(dim, torch.tensor(rest, device=weight.device)), form)


def whole_weights_(net: nn.Module) -> list[str]:
    """Gives every module with a stored weight its own class and a plain float weight, in place; returns the
    names.

    A weight that trained in part trains as a whole. For an export, and for a state dict with plain names.
    """
    stored = [(name, module) for name, module in net.named_modules() if isinstance(module, StoredWeight)]
    for _, module in stored:
        _make_whole_(module)
    return [name for name, _ in stored]


def stored_form(inside: Mapping[str, Any]) -> StoredForm:
    """Returns what the weight of a `StoredWeight` is made of; `inside`: its `vars()`."""
    buffers: Mapping[str, Tensor | None] = inside["_buffers"]
    frozen, chosen, places = (
        buffers[name] for name in ("frozen_weight", "trained_channels", "channel_places")
    )
    assert frozen is not None
    trained = None
    if chosen is not None and places is not None:
        trained = TrainedChannels(chosen, places, 0 if inside["groups"] != 1 else 1)
    return StoredForm(frozen, buffers["weight_scale"], trained)


def trained_part(module: nn.Module) -> nn.Parameter | None:
    """Returns the trained part of the weight of a `StoredWeight`, None if all of it is frozen."""
    return module._parameters.get("weight_part")


def stored_weights(net: nn.Module) -> list[Tensor]:
    """Returns the buffers of `net` that hold stored weights: in memory they count as parameters."""
    return [
        tensor
        for module in net.modules()
        if isinstance(module, StoredWeight)
        for name in _BUFFERS
        if (tensor := module._buffers[name]) is not None
    ]


def per_filter(scale: Tensor, weight: Tensor) -> Tensor:
    """Returns `scale` `(C',)` as a factor of `weight` `(C', ...)`."""
    return scale.view(-1, *(1,) * (weight.dim() - 1))


class _JoinFunction(torch.autograd.Function):
    """Joins frozen and trained channels to a weight `(C', C, ...)`.

    Backward picks the trained channels of the gradient. Autograd's own backward would make a gradient of the
    frozen channels, too.
    """

    @staticmethod
    def forward(ctx: Any, frozen: Tensor, part: Tensor, trained: TrainedChannels) -> Tensor:
        ctx.trained = trained
        return _picked(torch.cat([frozen, part], trained.dim), trained.dim, trained.places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        return None, _picked(grad, ctx.trained.dim, ctx.trained.chosen), None


def _picked(weight: Tensor, dim: int, channels: Tensor) -> Tensor:
    """Returns these channels of a weight along a dimension, in new memory."""
    # To pick columns of a matrix is three times as fast as to pick channels.
    if dim == 1 and weight.shape[2:] == (1, 1):
        return weight.flatten(1).index_select(1, channels)[:, :, None, None]
    if dim == 1 and weight.is_contiguous(memory_format=torch.channels_last):
        rows = weight.permute(0, 2, 3, 1)
        picked = rows.reshape(-1, rows.shape[3]).index_select(1, channels)
        return picked.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)
    return weight.index_select(dim, channels)


def _begin_(module: nn.Module, weight: Tensor, form: str) -> None:
    """Gives a plain module a frozen stored weight."""
    del module.weight
    set_class_(module, _STORED[type(module)])
    for name in _BUFFERS:
        module.register_buffer(name, None)
    _store_(module, weight, form)


def _store_(module: nn.Module, frozen: Tensor, form: str) -> None:
    """Sets what is stored of a module's frozen channels."""
    scale = None
    if form == "int8":
        scale = _scale_of(frozen)
        frozen = (frozen / per_filter(scale, frozen)).round_().clamp_(-LARGEST, LARGEST)
    module._buffers["weight_scale"] = scale
    module._buffers["frozen_weight"] = frozen.to(_TYPES[form] or frozen.dtype)


def _scale_of(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(tuple(range(1, weight.dim()))) / LARGEST
    return scale.masked_fill_(scale == 0, 1.0)  # a filter of zeros


def _train_(conv: nn.Module, weight: Tensor, chosen: list[int], dim: int) -> None:
    """Sets the trained part of a module with a stored weight, from its whole weight."""
    index = torch.tensor(chosen, device=weight.device)
    values = weight.index_select(dim, index)
    part = trained_part(conv)
    if part is not None and part.shape == values.shape:
        with torch.no_grad():
            part.copy_(values)
    else:
        form = torch.contiguous_format if weight.is_contiguous() else torch.channels_last
        conv.register_parameter("weight_part", nn.Parameter(values.contiguous(memory_format=form)))
    rest = _others(chosen, weight.shape[dim])
    places = {channel: place for place, channel in enumerate([*rest, *chosen])}
    conv._buffers["trained_channels"] = index
    conv._buffers["channel_places"] = torch.tensor(
        [places[channel] for channel in range(len(places))], device=weight.device
    )


def _make_whole_(module: nn.Module) -> None:
    weight, part = cast(Tensor, module.weight).detach(), trained_part(module)
    assert isinstance(module, StoredWeight)
    for name in _BUFFERS:
        del module._buffers[name]
    module._parameters.pop("weight_part", None)
    set_class_(module, module.whole_class)
    parameters = dict(module._parameters)
    module._parameters.clear()  # the weight comes first, as in a new module
    module.register_parameter("weight", nn.Parameter(weight.clone(), requires_grad=part is not None))
    module._parameters.update(parameters)


def _frozen_channels(module: StoredWeight) -> Tensor:
    """Returns the frozen channels of a stored weight as floats."""
    form = stored_form(vars(module))
    made = form.unscaled()
    return made if form.scale is None else made.mul_(per_filter(form.scale, made))


def _form_of(module: StoredWeight) -> str:
    dtype = stored_form(vars(module)).frozen.dtype
    return next((form for form, stored in _TYPES.items() if stored is dtype), "float32")


def _weight_of(module: nn.Module) -> nn.Parameter:
    weight = module._parameters["weight"]
    assert weight is not None
    return weight


def _channels_of(conv: nn.Conv2d) -> tuple[int, int]:
    """Returns the dimension of a convolution's weight along which channels train, and how many it has."""
    if isinstance(conv, WeightStandardizedConv2d):
        raise ValueError(
            "a standardised weight cannot train in part: each of its values depends on all of its filter"
        )
    if conv.groups == 1:
        return 1, conv.in_channels
    if conv.groups == conv.in_channels == conv.out_channels:
        return 0, conv.out_channels
    raise ValueError(
        f"a convolution of {conv.in_channels} channels in {conv.groups} groups cannot train in part: choose "
        "one without groups, or a depthwise one"
    )


def _others(chosen: list[int], count: int) -> list[int]:
    taken = set(chosen)
    return [channel for channel in range(count) if channel not in taken]
