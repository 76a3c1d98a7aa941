"""RandAugment: two changes of each training picture, drawn from torchvision's list, all of one strength.

Each picture of an epoch has a seed of its own, by its place in the epoch's order. So it is the same for any
number of workers and of processes, and an epoch can be repeated. A picture is changed as it is stored, before
its crop is drawn: a worker process does both, decoding and this.

Source: Cubuk et al., RandAugment: Practical automated data augmentation, NeurIPS 2020.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from tinytl.errors import needs_extra

Pictures = npt.NDArray[np.uint8]
Seeds = npt.NDArray[np.int64]

_DRAWS = 2
"""Makes the seeds of pictures others than what is drawn for an epoch's order, of the same seed."""


def picture_seeds(n: int, seed: int, epoch: int) -> Seeds:
    """Returns `(n,)` int64: a seed for each picture of an epoch, in its order."""
    return np.random.default_rng((seed, epoch, _DRAWS)).integers(2**63 - 1, size=n)


def rand_augmented(pictures: Pictures, magnitude: int, seeds: Seeds) -> Pictures:
    """Returns `pictures` `(n, S, S, 3)` uint8, each changed as its seed says.

    `magnitude`: 1 to 30, as torchvision counts. What is shifted or turned into a picture is black. Leaves
    torch's random numbers as they are, from which dropout draws.

    Raises:
        ConfigError: if torchvision is not installed.
    """
    transform = transform_of(magnitude)
    changed = np.empty_like(pictures)
    with torch.random.fork_rng(devices=[]):
        for target, picture, seed in zip(changed, pictures, seeds, strict=True):
            torch.default_generator.manual_seed(int(seed))
            target[:] = np.asarray(transform(Image.fromarray(picture)))
    return changed


@cache
def transform_of(magnitude: int) -> Callable[[Image.Image], Image.Image]:
    """Returns torchvision's RandAugment, which draws from torch's generator.

    Raises:
        ConfigError: if torchvision is not installed.
    """
    with needs_extra(f"rand_augment={magnitude}", "torchvision"):
        from torchvision.transforms import v2
    return v2.RandAugment(magnitude=magnitude)
