"""Resizes boxes of uint8 pictures to the network's resolution, on the device that trains.

Bilinear, antialiased: each pixel of the result is a mean of the box, weighted by a triangle as wide as the
step between results. A CPU runs torch's integer kernel, picture by picture: 8 times as fast there as
matrix products at 224 px. On a GPU, one kernel per picture would leave it idle. There the same weights are
two small matrices per picture, for a few pictures at a time (benchmarks/transfer/data_throughput.py).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.data.crops import Crop
from tinytl.device import sent

AT_ONCE_BYTES = 2**19
"""Bytes of pictures (uint8, stored or resized, whichever is larger) that are resized at a time. As floats, in
three stages, a GPU holds 12 times that: 6 MiB beside the batch."""


def pictures_at_once(side: int, resolution: int) -> int:
    """Returns how many pictures of `side` pixels to resize at a time."""
    return max(1, AT_ONCE_BYTES // (3 * max(side, resolution) ** 2))


def resize_crops_(out: Tensor, pictures: Tensor, crops: Sequence[Crop]) -> None:
    """Fills `out` `(n, 3, R, R)` uint8 with boxes of `pictures` `(n, S, S, 3)` uint8, on their device."""
    if pictures.device.type == "cpu":
        for target, picture, crop in zip(out, pictures, crops, strict=True):
            _resize_one_(target, picture, crop)
    else:
        out.copy_(resize_by_products(pictures, crops, out.shape[-1]))


def resize_by_products(pictures: Tensor, crops: Sequence[Crop], resolution: int) -> Tensor:
    """Returns boxes of `(n, S, S, 3)` uint8 pictures as `(n, 3, R, R)` uint8, by matrix products.

    Within 1 of 255 of torch's antialiased bilinear resize.
    """
    n, side = pictures.shape[:2]
    boxes = [(crop.top, crop.height, crop.left, crop.width, crop.mirrored) for crop in crops]
    on_device = sent(torch.tensor(boxes, dtype=torch.float32), pictures.device)
    top, height, left, width, mirrored = on_device.unbind(1)
    rows = _triangle_weights(top, height, side, resolution)
    columns = _triangle_weights(left, width, side, resolution)
    columns = torch.where(mirrored[:, None, None] > 0, columns.flip(1), columns)
    stretched = torch.bmm(rows, pictures.to(torch.float32).view(n, side, side * 3))
    stretched = stretched.view(n, resolution, side, 3).transpose(1, 2).reshape(n, side, resolution * 3)
    resized = torch.bmm(columns, stretched).view(n, resolution, resolution, 3)
    return resized.round_().clamp_(0, 255).to(torch.uint8).permute(0, 3, 2, 1)


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
