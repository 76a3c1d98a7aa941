"""What a module was before it was made lean, and whether it still does what its class does."""

from torch import nn
from torch.nn.utils import parametrize

from tinytl.networks.backbones.inverted_residual import SamePadConv2d, full_name
from tinytl.networks.group_norm import GroupNorm
from tinytl.networks.lite_residual import AvgPoolWithinMap, ExactHardsigmoid
from tinytl.networks.stored_weights import StoredSamePadConv2d
from tinytl.networks.weight_standardization import WeightStandardizedConv2d, WeightStandardizedSamePadConv2d


def base_class(module: nn.Module) -> type[nn.Module]:
    """Returns the class that `module` had before it was made lean (its own class if it was not)."""
    return getattr(type(module), "stock_class", type(module))


def keeps_forward(module: nn.Module, cls: type[nn.Module]) -> bool:
    """Whether `module` is a `cls` that computes as `cls` does (a subclass may have changed its forward)."""
    mine = base_class(module)
    if not issubclass(mine, cls) or "forward" in vars(module):
        return False
    inner = getattr(cls, "_conv_forward", None)
    same = mine.forward is cls.forward and getattr(mine, "_conv_forward", None) is inner
    return same or mine in _VARIANTS or _is_same_pad_of_timm(mine)


def pads_by_size(module: nn.Module) -> bool:
    """Whether a convolution pads as TensorFlow does, by the map's size."""
    return issubclass(base_class(module), SamePadConv2d) or _is_same_pad_of_timm(base_class(module))


def _is_same_pad_of_timm(cls: type[nn.Module]) -> bool:
    return full_name(cls) == "timm.layers.conv2d_same.Conv2dSame"


def standardizes_weight(module: nn.Module) -> bool:
    """Whether a convolution standardises its weight before it is used."""
    return issubclass(base_class(module), WeightStandardizedConv2d)


def fits_window(module: nn.Module) -> bool:
    """Whether a pooling limits its window to the size of the map."""
    return issubclass(base_class(module), AvgPoolWithinMap)


def reason_to_leave(module: nn.Module) -> str | None:
    """Returns why a module's forward must not be replaced, None if it may be."""
    if has_hooks(module):
        return "has hooks"
    return reason_unfit(module)


def reason_unfit(module: nn.Module) -> str | None:
    """Returns why a module does not compute as its class does, None if it does. Hooks are not checked."""
    if "forward" in vars(module):
        return "has a forward of its own"
    if parametrize.is_parametrized(module):
        return "is parametrised"
    if isinstance(module, _CONVOLUTIONS) and module.padding_mode != "zeros":
        return f"pads with {module.padding_mode}"
    if isinstance(module, _CONVOLUTIONS) and isinstance(module.padding, str) and module.padding != "valid":
        if any(d * (k - 1) % 2 for d, k in zip(module.dilation, module.kernel_size, strict=True)):
            return "pads one side more than the other"
    return None


def has_hooks(module: nn.Module) -> bool:
    """Whether the module's forward or backward has a hook."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_VARIANTS = (
    SamePadConv2d,
    StoredSamePadConv2d,
    WeightStandardizedConv2d,
    WeightStandardizedSamePadConv2d,
    AvgPoolWithinMap,
    ExactHardsigmoid,
    GroupNorm,
)
"""Classes with a forward of their own that is known here."""
