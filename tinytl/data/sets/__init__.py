"""The published data sets, one file each, and the user's own; `tinytl.data` loads them by name."""

from collections.abc import Mapping

from tinytl.data.sets.cars import CARS
from tinytl.data.sets.cifar import CIFAR10, CIFAR100
from tinytl.data.sets.cub200 import CUB200
from tinytl.data.sets.food101 import FOOD101
from tinytl.data.sets.imagenet import IMAGENET
from tinytl.data.sets.named_set import NamedSet

NAMED_SETS: Mapping[str, NamedSet] = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "cub200": CUB200,
    "cars": CARS,
    "food101": FOOD101,
    "imagenet": IMAGENET,
}
"""Each published set under the name that `TrainConfig.dataset` gives it."""
