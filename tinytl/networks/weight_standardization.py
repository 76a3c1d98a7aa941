"""Weight standardisation: filters of mean 0 and deviation 1, computed from the weights in every forward.

The norm after a convolution undoes a filter's scale. So only two things change: the filter's mean, and that
its scale cannot grow. Source: Qiao et al. 2019, section 3; once-for-all `ofa/utils/my_modules.py` (MyConv2d),
as TinyTL uses it.
"""

from torch import Tensor, nn

from tinytl.networks.backbones.inverted_residual import SamePadConv2d
from tinytl.networks.surgery import set_class_

WS_EPS = 1e-5
"""Added to the deviation, as the reference does."""
FILTER = (1, 2, 3)
"""Dimensions of one filter in a weight."""


class WeightStandardizedConv2d(nn.Conv2d):
    """Convolution of `(N, C, H, W)` by its weight standardised; `weight` itself trains and is stored."""

    def forward(self, input: Tensor) -> Tensor:
        """Standardises, then convolves."""
        return self._conv_forward(input, standardized(self.weight), self.bias)


class WeightStandardizedSamePadConv2d(WeightStandardizedConv2d, SamePadConv2d):
    """As above, for a convolution that pads by the map's size."""


def standardize_weights_(net: nn.Module) -> list[str]:
    """Standardises the weight of every convolution without a bias, in place; returns the names.

    Convolutions without a bias are those that a norm follows. If the weight trains, the convolution becomes a
    `WeightStandardizedConv2d`. If it is frozen, its standardised value is a constant and replaces it: no work
    and no memory in training. Standardising twice changes a weight by no more than eps, so a state_dict fits
    a net in which other weights train. Filters of one tap have no deviation and stay. Call it after
    `requires_grad` is set.

    Raises:
        ValueError: for a weight that trains in part or is stored (`stored_weights`).
    """
    names = []
    for name, conv in net.named_modules():
        if not isinstance(conv, nn.Conv2d) or conv.bias is not None or conv.weight[0].numel() == 1:
            continue
        if "weight" not in dict(conv.named_parameters(recurse=False)):
            raise ValueError(
                f"{name}: a weight that trains in part cannot be standardised, as each value of a "
                "standardised filter depends on all of it"
            )
        if conv.weight.requires_grad:
            same_pad = isinstance(conv, SamePadConv2d)
            set_class_(conv, WeightStandardizedSamePadConv2d if same_pad else WeightStandardizedConv2d)
        else:
            conv.weight.data = standardized(conv.weight.data)
        names.append(name)
    return names


def standardized(weight: Tensor) -> Tensor:
    """Returns the weight `(C', C, h, w)` with mean 0 and (unbiased) deviation 1 over each `(C, h, w)`."""
    centred = weight - weight.mean(FILTER, keepdim=True)
    return centred / (centred.std(FILTER, keepdim=True) + WS_EPS)
