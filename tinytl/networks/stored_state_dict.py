"""A state dict with stored weights, as a file has it, made one of plain float weights."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tinytl.networks.stored_weights import StoredForm, TrainedChannels

_FROZEN = "frozen_weight"


def with_plain_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the state dict that the network would have if no weight were stored: a float `weight` in place
    of each `frozen_weight`, `weight_scale`, `weight_part`, `trained_channels` and `channel_places`.

    Every other tensor is left as it is. A weight is new memory if it was stored in another form.

    Raises:
        ValueError: naming the first stored weight whose tensors do not fit each other, or of which one is
            missing.
    """
    plain: dict[str, Tensor] = {}
    stored = {name.removesuffix(_FROZEN) for name in state_dict if _own_name(name) == _FROZEN}
    for name, tensor in state_dict.items():
        module = name.removesuffix(_own_name(name))
        if module not in stored or _own_name(name) not in _NAMES:
            plain[name] = tensor
        elif _own_name(name) == _FROZEN:
            plain[f"{module}weight"] = _whole(module, state_dict)
    return plain


_NAMES = (_FROZEN, "weight_scale", "weight_part", "trained_channels", "channel_places")


def _own_name(name: str) -> str:
    """Returns a tensor's name inside of its module."""
    return name.rpartition(".")[2]


def _whole(module: str, state_dict: Mapping[str, Tensor]) -> Tensor:
    tensors = [state_dict.get(f"{module}{name}") for name in _NAMES]
    frozen, scale, part, chosen, places = tensors
    assert frozen is not None
    if frozen.dtype is torch.int8 and (scale is None or scale.shape != frozen.shape[:1]):
        raise _does_not_fit(module)
    if part is None and chosen is None and places is None:
        return StoredForm(frozen, scale, None).whole(None)
    if part is None or chosen is None or places is None:
        raise _does_not_fit(module)
    trained = TrainedChannels(chosen, places, _trained_dim(module, frozen, part, places))
    return StoredForm(frozen, scale, trained).whole(part)


def _trained_dim(module: str, frozen: Tensor, part: Tensor, places: Tensor) -> int:
    """Returns the dimension along which a part trains: 1, or 0 of a depthwise weight.

    Both fit two filters of one channel each. No backbone has such a convolution, and it counts as not
    depthwise.
    """
    count = places.numel()
    each_once = torch.equal(places.sort().values, torch.arange(count, device=places.device))
    for dim in (1, 0):
        shape = list(frozen.shape)
        shape[dim] = count - shape[dim]
        if each_once and list(part.shape) == shape:
            return dim
    raise _does_not_fit(module)


def _does_not_fit(module: str) -> ValueError:
    return ValueError(
        f"the tensors of {module}weight, which is stored in parts, do not fit each other, or one is missing: "
        "give the file as it was written"
    )
