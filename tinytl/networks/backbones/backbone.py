"""What a backbone is: an architecture, the input of its weights, and where these are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Backbone:
    """A network with `features` and `classifier`, and the input normalisation of its ImageNet weights."""

    build: Callable[[int], nn.Module]
    """Builds the network with random weights from the number of classes."""
    input_mean: Channels
    input_std: Channels
    imagenet: Mapping[str, Callable[[], dict[str, Tensor]]]
    """Readers of the ImageNet weights, by the name that `weights` gives them. Empty: none are published in a
    form with a known checksum."""
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    """Renames other publishers' layouts of this network to its own names; its own names stay."""
    published: str = ""
    """Where its authors publish ImageNet weights that `imagenet` cannot name, as they have no checksum."""
    resolution: int | None = None
    """Pixels a side of the images for which its publisher made it. None: not known."""
    check_resolution: Callable[[int], None] = lambda resolution: None
    """Raises ConfigError if the network takes no images of so many pixels a side."""
    norms_a_sample: Callable[[int], bool] = lambda resolution: True
    """Whether, at so many pixels, batch norm has several values per channel in a batch of one image."""
    licence: str = ""
    """Licence of the weights in `imagenet`, as their publisher states it."""
