"""Sizes and strides of what common operations return, worked out from those of their arguments.

PyTorch's own answer is the same. It comes from reference code in Python that imports sympy and a compiler,
and needs most of the time of a prediction. What is not known here is asked there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload


class Form(NamedTuple):
    """A new tensor, in memory of its own and as dense as its strides say."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


Forms = tuple[Form, ...]


def forms_of(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    """Returns the form of each tensor that `func` returns; None if it is not known."""
    name = func.name().partition("::")[2]
    base = name.partition(".")[0]
    if base in _LIKE:
        return _like(args[0], kwargs)
    if base in _SAME_TYPE or base in _COMPARISONS:
        return _pointwise(base, args, kwargs)
    if name in _OTHERS:
        return _OTHERS[name](args, kwargs)
    return None


def written(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor] | None:
    """Returns the arguments that an operation writes to and returns; None if it makes tensors."""
    schema = func._schema
    if not schema.returns or any(not _is_written(value) for value in schema.returns):
        return None
    places = [place for place, argument in enumerate(schema.arguments) if _is_written(argument)]
    found: list[Any] = []
    for place in places:
        name = schema.arguments[place].name
        found.append(args[place] if place < len(args) else kwargs.get(name))
    alike = len(found) == len(schema.returns) and all(isinstance(t, Tensor) and t.numel() for t in found)
    return found if alike else None


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def elementwise_strides(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Returns the strides of an element-wise result of that shape, from its operands' strides.

    An operand that is broadcast has stride 0 there. Source: torch._prims_common's
    `compute_elementwise_output_logical_to_physical_perm`.
    """
    return dense_strides(shape, _order(shape, operands))


def dense_strides(shape: Sequence[int], order: Sequence[int] | None = None) -> tuple[int, ...]:
    """Returns the strides of a dense tensor whose axes lie in memory in this order, the outermost first."""
    strides, reach = [0] * len(shape), 1
    for axis in reversed(order if order is not None else range(len(shape))):
        strides[axis] = reach
        reach *= max(1, shape[axis])
    return tuple(strides)


def _order(shape: Sequence[int], operands: Sequence[Sequence[int]]) -> list[int]:
    n = len(shape)
    if n < 2:
        return list(range(n))
    contiguous = all(_lie_in(shape, strides, range(n)) for strides in operands)
    last = n == 4 and all(_lie_in(shape, strides, (0, 2, 3, 1)) for strides in operands)
    if contiguous != last:
        return list(range(n)) if contiguous else [0, 2, 3, 1]
    order = list(reversed(range(n)))  # the innermost axis first
    for right in range(1, n):
        place = right
        for left in reversed(range(right)):
            comparison = _compare(shape, operands, order[left], order[place])
            if comparison > 0:
                order[left], order[place] = order[place], order[left]
                place = left
            elif comparison < 0:
                break
    return order[::-1]


def _compare(shape: Sequence[int], operands: Sequence[Sequence[int]], a: int, b: int) -> int:
    """Returns whether axis `a` lies inside of axis `b` (-1) or outside (1): the first operand decides."""
    for strides in operands:
        if strides[a] == 0 or strides[b] == 0:
            continue
        if strides[a] == strides[b]:
            if shape[b] >= shape[a]:
                continue
            return 1
        return -1 if strides[b] > strides[a] else 1
    return 0


def _lie_in(shape: Sequence[int], strides: Sequence[int], order: Sequence[int]) -> bool:
    """Whether axes of more than one lie densely in this order."""
    reach = 1
    for axis in reversed(order):
        if shape[axis] != 1:
            if strides[axis] != reach:
                return False
            reach *= shape[axis]
    return True


def _pointwise(base: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    numbers = [arg for arg in args if not isinstance(arg, Tensor)]
    dtype = _common_type(tensors)
    if dtype is None or kwargs.keys() - {"value"} or not all(tensor.numel() for tensor in tensors):
        return None
    if not dtype.is_floating_point and base not in _COMPARISONS:
        if base in _FLOAT_ONLY or dtype is torch.bool or any(type(number) is not int for number in numbers):
            return None
    shape = _broadcast(tensors)
    operands = [_expanded(tensor, len(shape), shape) for tensor in tensors]
    result = torch.bool if base in _COMPARISONS else dtype
    return (Form(tuple(shape), elementwise_strides(shape, operands), result),)


def _common_type(tensors: Sequence[Tensor]) -> torch.dtype | None:
    """Returns the one type of tensors, or the one type of floats among them; None if it is not as simple."""
    types = {tensor.dtype for tensor in tensors}
    if len(types) > 1:
        types = {dtype for dtype in types if dtype.is_floating_point}
        if any(tensor.dim() == 0 for tensor in tensors):
            return None
    return types.pop() if len(types) == 1 else None


def _broadcast(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Returns the shape that tensors are broadcast to, which fit one another."""
    n_axes = max(tensor.dim() for tensor in tensors)
    lengths = [(1,) * (n_axes - tensor.dim()) + tuple(tensor.shape) for tensor in tensors]
    return tuple(max(of_axis) for of_axis in zip(*lengths, strict=True))


def _expanded(tensor: Tensor, n_axes: int, shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the strides of a tensor that is broadcast to a shape."""
    new = n_axes - tensor.dim()
    return (0,) * new + tuple(
        stride if length == wished else 0
        for stride, length, wished in zip(tensor.stride(), tensor.shape, shape[new:], strict=True)
    )


def _like(x: Tensor, kwargs: Mapping[str, Any]) -> Forms | None:
    dtype, form = kwargs.get("dtype") or x.dtype, kwargs.get("memory_format")
    if form is torch.contiguous_format:
        return (Form(tuple(x.shape), dense_strides(x.shape), dtype),)
    if form is torch.channels_last:
        return (Form(tuple(x.shape), dense_strides(x.shape, (0, 2, 3, 1)), dtype),)
    return (Form(tuple(x.shape), elementwise_strides(x.shape, [x.stride()]), dtype),)


def _clone(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    x = args[0]
    kept = kwargs.get("memory_format") in (None, torch.preserve_format)
    if kept and _is_dense(x):
        return (Form(tuple(x.shape), tuple(x.stride()), x.dtype),)
    return _like(x, kwargs)


def _is_dense(x: Tensor) -> bool:
    strides = x.stride()
    axes = [axis for axis in range(x.dim()) if x.shape[axis] != 1]
    return _lie_in(x.shape, strides, sorted(axes, key=lambda axis: strides[axis], reverse=True))


def _of_size(size: Sequence[int], dtype: torch.dtype) -> Forms:
    return (Form(tuple(size), dense_strides(size), dtype),)


def _new(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    return _of_size(args[1], kwargs.get("dtype") or args[0].dtype)


def _sum(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    x, dims, keepdim = args[0], args[1] if len(args) > 1 else None, args[2] if len(args) > 2 else False
    dtype = kwargs.get("dtype") or (x.dtype if x.dtype.is_floating_point else torch.int64)
    gone = {dim % x.dim() for dim in dims} if dims else set(range(x.dim()))
    left = [axis for axis in range(x.dim()) if axis not in gone]
    inner = dense_strides([x.shape[axis] for axis in left])
    if not keepdim:
        return (Form(tuple(x.shape[axis] for axis in left), inner, dtype),)
    strides, place = [], 0
    for axis in range(x.dim()):
        if axis in gone:
            strides.append(inner[place] * x.shape[left[place]] if place < len(left) else 1)
        else:
            strides.append(inner[place])
            place += 1
    return (Form(tuple(1 if axis in gone else n for axis, n in enumerate(x.shape)), tuple(strides), dtype),)


def _mean(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    summed = _sum(args, kwargs)
    if summed is None or not args[0].dtype.is_floating_point:
        return None
    ((shape, strides, dtype),) = summed
    return (Form(shape, elementwise_strides(shape, [strides]), dtype),)


def _product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    *_, left, right = (arg for arg in args if isinstance(arg, Tensor))
    if kwargs or len(args) > 3:
        return None
    return _of_size((left.shape[0], right.shape[1]), left.dtype)


def _linear(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    x, weight = args[:2]
    return _of_size((*x.shape[:-1], weight.shape[0]), x.dtype)


def _as_first(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    """The form of the first argument, if it is contiguous and all are floats of one type."""
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    same = len({(t.dtype, t.shape) for t in tensors}) == 1 and all(t.is_contiguous() for t in tensors)
    dtype = tensors[0].dtype
    if kwargs or not same or dtype is not torch.float32:
        return None
    return _of_size(tensors[0].shape, dtype)


def _loss(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    x, _target, weight, reduction, _ignored = args
    if weight is not None or x.dim() != 2:
        return None
    return (*_of_size(() if reduction else x.shape[:1], x.dtype), *_of_size((), x.dtype))


def _loss_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    _gradient, x, _target, weight, *_ = args
    return None if weight is not None or not x.is_contiguous() else _of_size(x.shape, x.dtype)


def _argmax(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    if len(args) != 2 or args[1] is None or kwargs:
        return None
    return _of_size(
        [n for axis, n in enumerate(args[0].shape) if axis != args[1] % args[0].dim()], torch.int64
    )


def _masked(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    """The gradient of a kink: where the input lies decides, as far as it can, how the result lies."""
    gradient, x = args[:2]
    alike = (gradient.shape, gradient.dtype) == (x.shape, x.dtype) and x.dtype.is_floating_point
    if kwargs or not alike or not x.numel() or not all(map(_is_plain, (gradient, x))):
        return None
    return (Form(tuple(x.shape), elementwise_strides(x.shape, [x.stride(), gradient.stride()]), x.dtype),)


def _is_plain(x: Tensor) -> bool:
    """Whether a tensor has just the strides of a contiguous one, or of channels_last maps."""
    last = dense_strides(x.shape, (0, 2, 3, 1)) if x.dim() == 4 else None
    return tuple(x.stride()) in (dense_strides(x.shape), last)


def _filled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    x, mask, _number = args
    plain = x.dim() < 2 or tuple(x.stride()) == dense_strides(x.shape)
    plain = plain and x.dtype.is_floating_point
    if kwargs or mask.shape != x.shape or not x.numel() or not plain:
        return None
    return _of_size(x.shape, x.dtype)


def _pooled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    """Average pooling by (x, kernel, stride), nothing else given."""
    x, kernel, *rest = args
    stride = rest[0] if rest and rest[0] else kernel
    padding = rest[1] if len(rest) > 1 else (0,)
    if kwargs or any(padding) or any(rest[2:3]) or x.dim() != 4:
        return None
    axes = ((x.shape[2], kernel[0], stride[0]), (x.shape[3], kernel[-1], stride[-1]))
    return _laid_out_as(x, (*x.shape[:2], *((length - size) // step + 1 for length, size, step in axes)))


def _pooled_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    return _laid_out_as(args[1], args[1].shape)


def _padded(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    x, pads = args[:2]  # of the last axis first
    if x.dim() != 4 or len(pads) != 4 or min(pads) < 0:
        return None
    return _laid_out_as(x, (*x.shape[:2], x.shape[2] + pads[2] + pads[3], x.shape[3] + pads[0] + pads[1]))


def _resized(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    x, size = args[:2]
    return _laid_out_as(x, (*x.shape[:2], *size))


def _resized_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Forms | None:
    gradient, _, size = args[:3]
    return _laid_out_as(gradient, size)


def _laid_out_as(x: Tensor, shape: Sequence[int]) -> Forms | None:
    """Maps of that shape, contiguous or channels_last as `x` is, if it is not both."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    if last == x.is_contiguous():
        return None
    return (Form(tuple(shape), dense_strides(shape, (0, 2, 3, 1) if last else None), x.dtype),)


_LIKE = frozenset("empty_like zeros_like ones_like".split())
_SAME_TYPE = frozenset("add sub mul div neg rsqrt reciprocal addcmul".split())
_FLOAT_ONLY = frozenset("div rsqrt reciprocal".split())
_COMPARISONS = frozenset("eq ne ge gt le lt".split())
_OTHERS: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any]], Forms | None]] = {
    "clone": _clone,
    "new_empty": _new,
    "new_zeros": _new,
    "sum": _sum,
    "sum.dim_IntList": _sum,
    "mean.dim": _mean,
    "mm": _product,
    "addmm": _product,
    "_linear_pointwise": _linear,
    "_log_softmax": _as_first,
    "_log_softmax_backward_data": _as_first,
    "hardtanh_backward": _masked,
    "threshold_backward": _masked,
    "nll_loss_forward": _loss,
    "nll_loss_backward": _loss_backward,
    "argmax": _argmax,
    "masked_fill.Scalar": _filled,
    "avg_pool2d": _pooled,
    "avg_pool2d_backward": _pooled_backward,
    "constant_pad_nd": _padded,
    "upsample_nearest2d": _resized,
    "upsample_nearest2d_backward": _resized_backward,
    "upsample_bilinear2d_backward": _resized_backward,
}
