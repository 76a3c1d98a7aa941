"""Resizes boxes of uint8 pictures to the network's resolution, on the device that trains.

Bilinear, antialiased: each pixel of the result is a mean of the box, weighted by a triangle as wide as the
step between results. A CPU runs torch's integer kernel, picture by picture: 8 times as fast there as
matrix products at 224 px. On a GPU, one kernel per picture would leave it idle. There the same weights are
two small matrices per picture, for as many pictures at a time as a step has in memory
(benchmarks/transfer/data_throughput.py).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.config.train_config import TrainConfig
from tinytl.data.crops import Crop

READ_AT_ONCE_BYTES = 2**19
"""Bytes of pictures (uint8, stored or resized, whichever is larger) that are read, or decoded, at a time."""
PRODUCTS_MIB = 64.0
"""What matrix products may need at a time if the plan says nothing: as much as the largest intermediate of
lean blocks on a GPU (`Execution.slice_mib`)."""
PRODUCTS_TO_PICTURE = 10
"""Matrix products need at most this many times the bytes of the pictures (uint8, stored or resized, whichever
is larger): floats, in two stages, and the weights."""
BOX_NUMBERS = 5
"""Columns of the tensor that `boxes_of` makes."""


def read_at_once(side: int, resolution: int) -> int:
    """Returns how many pictures of `side` pixels to read, or to decode, at a time."""
    return max(1, READ_AT_ONCE_BYTES // _picture_bytes(side, resolution))


def resized_at_once(config: TrainConfig, side: int) -> int:
    """Returns how many pictures of `side` pixels a GPU resizes at a time for a planned `config`.

    As many as a step has in memory, and not more than its slices hold: pictures are resized between two
    steps, and with this many that needs less than the step (the tests compare the two).
    """
    most_mib = PRODUCTS_MIB if config.slice_mib is None else config.slice_mib
    return max(1, min(config.samples_in_memory, _products_within(most_mib, side, config.resolution)))


def resize_crops_(out: Tensor, pictures: Tensor, crops: Sequence[Crop]) -> None:
    """Fills `out` `(n, 3, R, R)` uint8 with boxes of `pictures` `(n, S, S, 3)` uint8, on a CPU."""
    for target, picture, crop in zip(out, pictures, crops, strict=True):
        _resize_one_(target, picture, crop)


def boxes_of(crops: Sequence[Crop]) -> Tensor:
    """Returns `(n, 5)` float32 on the CPU: top, height, left, width, and 1 if the content is mirrored."""
    rows = [(crop.top, crop.height, crop.left, crop.width, crop.mirrored) for crop in crops]
    return torch.tensor(rows, dtype=torch.float32).view(-1, BOX_NUMBERS)


def resize_boxes(pictures: Tensor, boxes: Tensor, resolution: int, at_once: int) -> Tensor:
    """Returns boxes of `pictures` `(N, S, S, 3)` uint8 as `(N, 3, R, R)` uint8, channels_last.

    By matrix products, on any device. `boxes`: of `boxes_of`, on the device of `pictures`. The batch is cut
    into as few parts, of one size if that divides, as `at_once` pictures and PRODUCTS_MIB allow.
    """
    n, side = pictures.shape[:2]
    shape = (n, 3, resolution, resolution)
    out = torch.empty(shape, dtype=torch.uint8, device=pictures.device, memory_format=torch.channels_last)
    at_once = max(1, min(at_once, _products_within(PRODUCTS_MIB, side, resolution)))
    size = -(-n // -(-n // at_once)) if n else 1
    for start in range(0, n, size):
        part = slice(start, start + size)
        _resize_by_products_(out[part], pictures[part], boxes[part])
    return out


def _resize_by_products_(out: Tensor, pictures: Tensor, boxes: Tensor) -> None:
    """Fills `out` `(n, 3, R, R)` uint8. Within 1 of 255 of torch's antialiased bilinear resize."""
    (n, side), resolution = pictures.shape[:2], out.shape[-1]
    top, height, left, width, mirrored = boxes.unbind(1)
    columns = _triangle_weights(left, width, side, resolution)
    columns = torch.where(mirrored[:, None, None] > 0, columns.flip(1), columns)
    # Columns first, so that the last product is in the order of `out`.
    floats = pictures.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    narrowed = torch.bmm(columns, floats.view(n, side, side * 3))
    del columns, floats
    narrowed = narrowed.view(n, resolution, side, 3).transpose(1, 2).reshape(n, side, resolution * 3)
    resized = torch.bmm(_triangle_weights(top, height, side, resolution), narrowed)
    del narrowed
    resized = resized.round_().clamp_(0, 255).view(n, resolution, resolution, 3)
    out.copy_(resized.permute(0, 3, 1, 2))


def _products_within(mib: float, side: int, resolution: int) -> int:
    return int(mib * 2**20) // (PRODUCTS_TO_PICTURE * _picture_bytes(side, resolution))


def _picture_bytes(side: int, resolution: int) -> int:
    return 3 * max(side, resolution) ** 2


def _resize_one_(target: Tensor, picture: Tensor, crop: Crop) -> None:
    rows, columns = slice(crop.top, crop.top + crop.height), slice(crop.left, crop.left + crop.width)
    box = picture[None, rows, columns].permute(0, 3, 1, 2)
    size = list(target.shape[-2:])
    resized = box
    if list(box.shape[-2:]) != size:
        resized = F.interpolate(box, size, mode="bilinear", antialias=True)
    target.copy_((resized.flip(-1) if crop.mirrored else resized)[0])


def _triangle_weights(start: Tensor, length: Tensor, side: int, resolution: int) -> Tensor:
    """Returns `(n, R, S)` weights of `side` pixels in each result; a row sums to 1.

    `start` and `length` `(n,)` float32 say which pixels lie in the box; others get no weight.
    """
    step = (length / resolution)[:, None]
    center = start[:, None] + (torch.arange(resolution, device=start.device) + 0.5) * step
    pixel = torch.arange(side, device=start.device) + 0.5
    distance = (pixel - center[..., None]).abs() / step.clamp(min=1.0)[..., None]
    inside = (pixel > start[:, None]) & (pixel < (start + length)[:, None])
    weights = (1 - distance).clamp_(min=0) * inside[:, None]
    return weights / weights.sum(-1, keepdim=True)
