"""The published data sets, a file each, and the user's own; `tinytl.data` loads them by name."""

from collections.abc import Mapping

from tinytl.datasets.cars import CARS
from tinytl.datasets.cifar import CIFAR10, CIFAR100
from tinytl.datasets.cub200 import CUB200
from tinytl.datasets.food101 import FOOD101
from tinytl.datasets.imagenet import IMAGENET
from tinytl.datasets.named_set import NamedSet

NAMED_SETS: Mapping[str, NamedSet] = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "cub200": CUB200,
    "cars": CARS,
    "food101": FOOD101,
    "imagenet": IMAGENET,
}
"""Each published set under the name that `TrainConfig.dataset` gives it."""
