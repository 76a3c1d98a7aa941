import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision

from tinytl.data.crops import Crop, random_crop
from tinytl.data.resizing import AT_ONCE_BYTES, pictures_at_once, resize_by_products, resize_crops_


def _pictures(n: int, side: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(side).integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def _on_the_cpu(pictures: Tensor, crops: list[Crop], resolution: int) -> Tensor:
    out = torch.empty((len(crops), 3, resolution, resolution), dtype=torch.uint8)
    resize_crops_(out, pictures, crops)
    return out


SIZES = [(8, 32), (32, 32), (110, 96), (256, 224), (256, 32), (57, 64)]


@pytest.mark.parametrize(("side", "resolution"), SIZES)
def test_matrix_products_are_the_cpus_resize_to_rounding(side: int, resolution: int) -> None:
    rng = np.random.default_rng(0)
    crops = [random_crop(side, 0.2, True, rng) for _ in range(12)] + [Crop(0, 0, side, side)]
    assert {crop.mirrored for crop in crops} == {False, True}
    pictures = _pictures(len(crops), side)
    fast = resize_by_products(pictures, crops, resolution)
    assert fast.dtype == torch.uint8
    difference = (fast.int() - _on_the_cpu(pictures, crops, resolution).int()).abs()
    assert difference.max() <= 1
    # Noise: a box a pixel off would differ by tens.
    assert difference.float().mean() < 0.2


@pytest.mark.parametrize(("side", "resolution"), SIZES)
def test_the_cpus_resize_is_torchvisions(side: int, resolution: int) -> None:
    (picture,) = _pictures(1, side)
    (resized,) = _on_the_cpu(picture[None], [Crop(0, 0, side, side)], resolution)
    expected = torchvision.resize(picture.permute(2, 0, 1), [resolution, resolution], antialias=True)
    assert torch.equal(resized, expected)


def test_nothing_outside_the_box_is_seen() -> None:
    pictures = torch.full((2, 20, 20, 3), 255, dtype=torch.uint8)
    crops = [Crop(3, 5, 9, 7), Crop(0, 10, 20, 10, mirrored=True)]
    for picture, crop in zip(pictures, crops, strict=True):
        picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width] = 40
    assert resize_by_products(pictures, crops, 32).unique().tolist() == [40]
    assert _on_the_cpu(pictures, crops, 32).unique().tolist() == [40]


@pytest.mark.parametrize(("side", "resolution"), [(8, 224), (256, 224), (1200, 1024)])
def test_few_pictures_are_in_work_at_a_time(side: int, resolution: int) -> None:
    at_once = pictures_at_once(side, resolution)
    assert at_once == 1 or at_once * 3 * max(side, resolution) ** 2 <= AT_ONCE_BYTES
    assert (at_once + 1) * 3 * max(side, resolution) ** 2 > AT_ONCE_BYTES
