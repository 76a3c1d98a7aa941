"""Which parameters each method trains.

Source: TinyTL, Cai et al. 2020, section 4.1: FT-Last, FT-Norm+Last, FT-Full, TinyTL-B, -L, -L+B. Last-3,
Last-5 and Scratch are the user's own, Sparse is MCUNetV3's (`update_scheme`).
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tinytl.config.names import LAST_BLOCKS, LITE_METHODS, METHODS
from tinytl.errors import choose
from tinytl.networks.lite_residual import LiteResidualModule
from tinytl.networks.update_scheme import UpdateScheme, apply_scheme_


def apply_update_method_(net: nn.Module, method: str, scheme: UpdateScheme | None = None) -> None:
    """Sets `requires_grad` of every parameter as `method` says; the classifier trains in every method.

    Sparse needs its `scheme`. TinyTL-L and -L+B need `insert_lite_residual` before. L+B keeps the last bias
    of each lite branch frozen: the block's own bias would do the same.
    """
    method = choose("method", method, METHODS)
    net.requires_grad_(method in ("FT-Full", "Scratch"))
    if method in LAST_BLOCKS:
        features = list(net.get_submodule("features").children())
        for module in features[-LAST_BLOCKS[method] :]:
            module.requires_grad_(True)
    if method == "FT-Norm+Last":
        for module in net.modules():
            if is_norm(module):
                module.requires_grad_(True)
    if method == "Sparse":
        assert scheme is not None, "Sparse without a scheme"
        apply_scheme_(net, scheme)
    train_bias = method in ("TinyTL-B", "TinyTL-L+B")
    if train_bias:
        for name, parameter in net.named_parameters():
            if name.endswith(".bias"):
                parameter.requires_grad_(True)
    if method in LITE_METHODS:
        lite = [module for module in net.modules() if isinstance(module, LiteResidualModule)]
        assert lite, f"{method} without lite residual modules"
        for module in lite:
            module.lite_residual.requires_grad_(True)
            if train_bias:
                module.lite_residual.get_parameter("final_bn.bias").requires_grad_(False)
    net.get_submodule("classifier").requires_grad_(True)


def is_norm(module: nn.Module) -> bool:
    """Whether `module` is a normalisation with weight and bias."""
    return isinstance(module, (_BatchNorm, nn.GroupNorm, nn.LayerNorm)) and module.weight is not None
