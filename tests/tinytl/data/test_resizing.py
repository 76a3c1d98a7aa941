import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as torchvision

from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.config.names import BACKBONES
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.data.crops import Crop, random_crop
from tinytl.data.resizing import (
    PRODUCTS_MIB,
    PRODUCTS_TO_PICTURE,
    READ_AT_ONCE_BYTES,
    boxes_of,
    read_at_once,
    resize_boxes,
    resize_crops_,
    resized_at_once,
)
from tinytl.memory.predict import predict_memory
from tinytl.memory.storage_tracker import StorageTracker


def _pictures(n: int, side: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(side).integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def _on_the_cpu(pictures: Tensor, crops: list[Crop], resolution: int) -> Tensor:
    out = torch.empty((len(crops), 3, resolution, resolution), dtype=torch.uint8)
    resize_crops_(out, pictures, crops)
    return out


def _by_products(pictures: Tensor, crops: list[Crop], resolution: int, at_once: int = 99) -> Tensor:
    return resize_boxes(pictures, boxes_of(crops), resolution, at_once)


GPU_CASES = [
    lean_plan(small(**fields, resolution=resolution, micro_batch_size=micro, slice_mib=slice_mib))
    for method, norm in (("FT-Last", "frozen_bn"), ("TinyTL-B", "frozen_bn"), ("TinyTL-L+B", "group_norm"))
    for backbone in BACKBONES
    for fields in [{"method": method, "norm": norm, "backbone": backbone, "device": "cuda", "batch_size": 8}]
    for resolution, micro, slice_mib in ((224, 1, None), (224, 8, None), (224, 8, 2.0), (64, 1, 2.0))
]
"""Among them those that need least beside their weights."""
SIZES = [(8, 32), (32, 32), (110, 96), (256, 224), (256, 32), (57, 64)]


@pytest.mark.parametrize(("side", "resolution"), SIZES)
def test_matrix_products_are_the_cpus_resize_to_rounding(side: int, resolution: int) -> None:
    rng = np.random.default_rng(0)
    crops = [random_crop(side, 0.2, True, rng) for _ in range(12)] + [Crop(0, 0, side, side)]
    assert {crop.mirrored for crop in crops} == {False, True}
    pictures = _pictures(len(crops), side)
    fast = _by_products(pictures, crops, resolution)
    assert fast.dtype == torch.uint8 and fast.is_contiguous(memory_format=torch.channels_last)
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
    assert _by_products(pictures, crops, 32).unique().tolist() == [40]
    assert _on_the_cpu(pictures, crops, 32).unique().tolist() == [40]


@pytest.mark.parametrize(("side", "resolution"), SIZES)
def test_how_a_batch_is_cut_changes_nothing_that_is_seen(side: int, resolution: int) -> None:
    rng = np.random.default_rng(1)
    pictures, crops = _pictures(7, side), [random_crop(side, 0.3, True, rng) for _ in range(7)]
    whole = _by_products(pictures, crops, resolution)
    for at_once in (1, 2, 3, 6):
        parts = _by_products(pictures, crops, resolution, at_once)
        assert (whole.int() - parts.int()).abs().max() <= 1
    for at_once in (1, 7):  # a process may have no sample of a batch
        assert _by_products(pictures[:0], [], resolution, at_once).shape == (0, 3, resolution, resolution)


@pytest.mark.parametrize(("side", "resolution"), [(8, 224), (256, 224), (1200, 1024)])
def test_few_pictures_are_read_at_a_time(side: int, resolution: int) -> None:
    at_once = read_at_once(side, resolution)
    assert at_once == 1 or at_once * 3 * max(side, resolution) ** 2 <= READ_AT_ONCE_BYTES
    assert (at_once + 1) * 3 * max(side, resolution) ** 2 > READ_AT_ONCE_BYTES


@pytest.mark.parametrize(("side", "resolution"), [(256, 224), (110, 96), (224, 224), (64, 224), (256, 96)])
def test_products_need_what_the_limit_counts_on(side: int, resolution: int) -> None:
    counted_mib = PRODUCTS_TO_PICTURE * 8 * 3 * max(side, resolution) ** 2 / 2**20
    assert _needed_mib(8, side, resolution, 8) <= counted_mib <= PRODUCTS_MIB


def test_a_large_batch_is_cut_by_the_limit() -> None:
    assert _needed_mib(128, 110, 96, 128) <= PRODUCTS_MIB < 2 * _needed_mib(128, 110, 96, 128)


def _needed_mib(n: int, side: int, resolution: int, at_once: int) -> float:
    """What resizing needs beside the pictures and the result."""
    pictures, boxes = (
        torch.empty((n, side, side, 3), dtype=torch.uint8),
        boxes_of([Crop(0, 0, side, side, mirrored=True)] * n),
    )
    tracker = StorageTracker(on_cpu=False)
    tracker.add_existing("batch_and_buffers", [pictures, boxes])
    with tracker:
        out = resize_boxes(pictures, boxes, resolution, at_once)
    return tracker.prediction().peak_mib - (pictures.nbytes + out.nbytes) / 2**20


@pytest.mark.parametrize("config", sampled(GPU_CASES, 13))
def test_resizing_on_a_gpu_needs_less_than_the_step(config: TrainConfig) -> None:
    predicted = predict_memory(config)
    state = sum(predicted.parts_mib[part] for part in ("parameters", "optimizer", "batch_and_buffers"))
    side = config.resolution * 8 // 7
    stored_mib = config.batch_size * 3 * side**2 / 2**20
    needed = _needed_mib(config.batch_size, side, config.resolution, resized_at_once(config, side))
    assert state + stored_mib + needed <= predicted.peak_mib
