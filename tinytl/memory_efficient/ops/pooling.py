"""Pooling that keeps a shape (average, adaptive average) or one byte per output (maximum).

Stock average pooling keeps its input, although backward reads only the shape. Stock max pooling keeps its
input and one 64-bit index per output, although the place in the window fits in 8 bits.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tinytl.memory_efficient.ops.first_derivative import first_derivative
from tinytl.memory_efficient.ops.layout import dense_format
from tinytl.memory_efficient.ops.precision import gradient_wanted

Size = tuple[int, int]
_AT_A_TIME_BYTES = 1 << 20
"""So much of a map is pooled at a time to its maximum, but at least one sample: beside it are integers."""


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """A pooling window; pairs are (height, width)."""

    kernel: Size
    stride: Size
    padding: Size = (0, 0)
    dilation: Size = (1, 1)
    """Of max pooling only."""
    ceil_mode: bool = False
    count_include_pad: bool = True
    """Of average pooling only, as is `divisor_override`."""
    divisor_override: int | None = None
    within_map: bool = False
    """The window, as wide as high, is never larger than the map; `stride` is unused."""

    def fitted(self, size: Size) -> "PoolSpec":
        """Returns the window for a map of `size`."""
        if not self.within_map:
            return self
        side = min(*self.kernel, *size)
        if self.kernel == self.stride == (side, side):
            return self
        return PoolSpec(kernel=(side, side), stride=(side, side))


def average_pool(x: Tensor, spec: PoolSpec) -> Tensor:
    """Averages windows of `(N, C, H, W)`."""
    spec = spec.fitted((x.shape[2], x.shape[3]))
    return F.avg_pool2d(
        x,
        spec.kernel,
        spec.stride,
        spec.padding,
        spec.ceil_mode,
        spec.count_include_pad,
        spec.divisor_override,
    )


def average_pool_grad(grad: Tensor, spec: PoolSpec, size: Size) -> Tensor:
    """Returns the gradient `(N, C, *size)` of the input, in new memory."""
    spec = spec.fitted(size)
    if spec.kernel == spec.stride and spec.padding == (0, 0) and not spec.ceil_mode:
        area = spec.divisor_override or spec.kernel[0] * spec.kernel[1]
        covered = (grad.shape[2] * spec.kernel[0], grad.shape[3] * spec.kernel[1])
        spread = torch.ops.aten.upsample_nearest2d(grad / area, covered)
        rest = (size[0] - covered[0], size[1] - covered[1])
        return F.pad(spread, (0, rest[1], 0, rest[0])) if any(rest) else spread
    # The kernel needs the input only for its shape. This memory is never written, but it is counted.
    shape = (grad.shape[0], grad.shape[1], *size)
    form = dense_format(grad) if grad.is_contiguous() else torch.channels_last
    stand_in = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=form)
    return cast(
        Tensor,
        torch.ops.aten.avg_pool2d_backward(
            grad,
            stand_in,
            spec.kernel,
            spec.stride,
            spec.padding,
            spec.ceil_mode,
            spec.count_include_pad,
            spec.divisor_override,
        ),
    )


def lean_average_pool(x: Tensor, spec: PoolSpec) -> Tensor:
    """Averages windows of `(N, C, H, W)` under autograd, keeping a shape."""
    if not gradient_wanted(x):
        return average_pool(x, spec)
    return cast(Tensor, AveragePoolFunction.apply(x, spec))


def lean_max_pool(x: Tensor, spec: PoolSpec) -> Tensor:
    """Takes the maximum of windows of `(N, C, H, W)` under autograd, keeping one byte per output.

    Windows of more than 256 places keep two bytes per output.
    """
    if not gradient_wanted(x):
        return F.max_pool2d(x, spec.kernel, spec.stride, spec.padding, spec.dilation, spec.ceil_mode)
    return cast(Tensor, MaxPoolFunction.apply(x, spec))


def lean_adaptive_average_pool(x: Tensor, output_size: Any) -> Tensor:
    """Averages `(N, C, H, W)` to a map of `output_size`, as torch's module reads it, keeping a shape."""
    if not gradient_wanted(x):
        return F.adaptive_avg_pool2d(x, output_size)
    return cast(Tensor, AdaptiveAveragePoolFunction.apply(x, output_size))


class AdaptiveAveragePoolFunction(torch.autograd.Function):
    """Adaptive average pooling under autograd; use `lean_adaptive_average_pool`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output_size: Any) -> Tensor:
        """Keeps the input's shape."""
        ctx.shape = x.shape
        return F.adaptive_avg_pool2d(x, output_size)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Spreads each output's gradient over its window."""
        stand_in = grad.new_empty(()).expand(ctx.shape)  # the kernel reads the input's shape alone
        return torch.ops.aten._adaptive_avg_pool2d_backward(grad, stand_in), None


class AveragePoolFunction(torch.autograd.Function):
    """Average pooling under autograd; use `lean_average_pool`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spec: PoolSpec) -> Tensor:
        """Keeps the map's size."""
        ctx.spec, ctx.size = spec, (x.shape[2], x.shape[3])
        return average_pool(x, spec)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Spreads each output's gradient over its window."""
        return average_pool_grad(grad, ctx.spec, ctx.size), None


class MaxPoolFunction(torch.autograd.Function):
    """Max pooling under autograd; use `lean_max_pool`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spec: PoolSpec) -> Tensor:
        """Keeps each maximum's place in its window; torch's 64-bit indices exist for a few samples."""
        ctx.spec, ctx.size = spec, (x.shape[2], x.shape[3])
        outputs, places = [], []
        for part in x.split(max(1, _AT_A_TIME_BYTES // max(1, x[:1].nbytes))):
            output, index = F.max_pool2d(
                part,
                spec.kernel,
                spec.stride,
                spec.padding,
                spec.dilation,
                spec.ceil_mode,
                return_indices=True,
            )
            outputs.append(output)
            index = index.int()
            places.append(_place_in_window(index, spec, x.shape[3]))
        ctx.save_for_backward(_joined(places))
        return _joined(outputs)

    @staticmethod
    @first_derivative
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Adds each output's gradient at its maximum, place by place of the window."""
        (places,) = ctx.saved_tensors
        spec, (height, width) = ctx.spec, ctx.size
        (down, right), (step_y, step_x), (gap_y, gap_x) = spec.padding, spec.stride, spec.dilation
        rows, columns = grad.shape[2], grad.shape[3]
        reach = ((spec.kernel[0] - 1) * gap_y, (spec.kernel[1] - 1) * gap_x)
        tall = max((rows - 1) * step_y + reach[0] + 1, height + down)
        wide = max((columns - 1) * step_x + reach[1] + 1, width + right)
        shape = (grad.shape[0], grad.shape[1], tall, wide)
        whole = torch.empty(
            shape, dtype=grad.dtype, device=grad.device, memory_format=dense_format(places)
        ).zero_()
        for y in range(spec.kernel[0]):
            for x in range(spec.kernel[1]):
                here = whole[
                    :,
                    :,
                    y * gap_y : y * gap_y + (rows - 1) * step_y + 1 : step_y,
                    x * gap_x : x * gap_x + (columns - 1) * step_x + 1 : step_x,
                ]
                here.addcmul_(grad, (places == y * spec.kernel[1] + x).to(grad.dtype))
        return whole[:, :, down : down + height, right : right + width], None


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _place_in_window(index: Tensor, spec: PoolSpec, width: int) -> Tensor:
    """Converts torch's flat index in the map, which it edits, to a place in the window, row by row."""
    dtype, device = index.dtype, index.device  # of another type, torch would copy the index
    rows = torch.arange(index.shape[2], dtype=dtype, device=device).mul_(spec.stride[0]).sub_(spec.padding[0])
    columns = (
        torch.arange(index.shape[3], dtype=dtype, device=device).mul_(spec.stride[1]).sub_(spec.padding[1])
    )
    x = index.remainder(width).sub_(columns).floor_divide_(spec.dilation[1])
    y = index.floor_divide_(width).sub_(rows[:, None]).floor_divide_(spec.dilation[0])
    small = torch.uint8 if spec.kernel[0] * spec.kernel[1] <= 256 else torch.int16
    return y.mul_(spec.kernel[1]).add_(x).to(small)
