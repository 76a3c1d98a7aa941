"""Fake tensors whose operations are worked out once per function, sizes, strides and types.

PyTorch's own mode needs a quarter of a millisecond for an operation that it has seen before, and milliseconds
for a new one; a search predicts the same ones again and again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._mode_utils import no_dispatch

from tinytl.memory.fake_convolution import CONVOLUTIONS, convolved
from tinytl.memory.known_forms import Form, dense_strides, forms_of, written

MOST_KNOWN = 1 << 17
"""So many answers are remembered in a process, about 100 MiB; then it begins anew."""
_NAMESPACES = ("aten", "mkldnn", "tinytl")
_TAGS = ("dynamic_output_shape", "data_dependent_output", "inplace_view")
_NAMES = ("resize_", "set_", "_resize_output_", "lift_fresh", "lift_fresh_copy")
_DIRECT = frozenset(
    (
        "view _unsafe_view as_strided permute t transpose unsqueeze squeeze select slice expand detach alias "
        "clone empty_like zeros_like mm addmm sum mean copy_ fill_ zero_ hardtanh_backward "
        "threshold_backward pack_interior apply_bits _to_copy"
    ).split()
)
"""Beside element-wise operations: their kernels without a device answer as those of a CPU."""
_PLAIN = frozenset(
    (int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
)
_SEVERAL = frozenset((tuple, list, torch.Size))


class RememberedAnswers:
    """The operations on the fake tensors of one mode, answered as that mode answered them before."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode
        self._examples: dict[torch.device, FakeTensor] = {}

    def answer(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, ask: Callable[[], Any]
    ) -> Any:
        """Returns what `func` returns; `ask` says it if that is not known yet."""
        key: list[Any] = [func]
        tensors: list[FakeTensor] = []
        plain = _depends_on_sizes_alone(func) and _describe(args, key, tensors)
        if plain and kwargs:
            plain = _describe(kwargs, key, tensors) and _describe(kwargs.values(), key, tensors)
        if not plain:
            return ask()
        at = tuple(key)
        known = _KNOWN.get(at)
        if known is None:
            known = _remember(at, _light_answer(func, args, kwargs or {}, tensors))
        if known is None:
            answer = ask()
            _remember(at, _forms(answer, tensors))
            return answer
        several, forms = known
        if several is None:
            return ask()
        if not several:
            return self._make(forms[0], tensors)
        return tuple([self._make(form, tensors) for form in forms])

    def _make(self, form: "_Form | None", tensors: Sequence[FakeTensor]) -> Tensor | None:
        if form is None:
            return None
        if form.same_as is not None:
            return tensors[form.same_as]
        with no_dispatch():
            if form.view_of is None:
                meta = torch.empty_strided(form.shape, form.stride, dtype=form.dtype, device="meta")
            else:
                storage = tensors[form.view_of].untyped_storage()
                meta = torch.empty((), dtype=form.dtype, device="meta")
                meta.set_(storage, form.offset, form.shape, form.stride)
            example = self._examples.get(form.device)
            if example is None:
                example = self._examples[form.device] = FakeTensor(self.mode, meta, form.device)
            made = Tensor._make_subclass(
                FakeTensor, meta, False, dispatch_device=True, device_for_backend_keys=form.device
            )
            made.__dict__.update(example.__dict__)  # a fifth of the time of FakeTensor(...)
        return made


class _Form(NamedTuple):
    """One tensor of an answer."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    device: torch.device
    same_as: int | None
    """Index of the argument that is returned."""
    view_of: int | None
    """Index of the argument that shares its storage; None for new memory."""


_Answer = tuple[bool | None, list[_Form | None]]
"""Whether an operation returns a tuple (None: it is not remembered), and the forms of what it returns."""
_KNOWN: dict[tuple[Any, ...], _Answer] = {}


@cache
def _depends_on_sizes_alone(func: Any) -> bool:
    """Whether sizes, types and plain arguments alone decide the sizes of what `func` returns."""
    if not isinstance(func, OpOverload) or func.namespace not in _NAMESPACES:
        return False
    tags = {str(tag).rpartition(".")[2] for tag in func.tags}
    return not tags.intersection(_TAGS) and func.name().partition("::")[2].partition(".")[0] not in _NAMES


@cache
def _is_direct(func: OpOverload) -> bool:
    """Whether tensors without a device have the same sizes and strides as those of a CPU or a GPU."""
    return torch.Tag.pointwise in func.tags or func.name().partition("::")[2].partition(".")[0] in _DIRECT


def _light_answer(
    func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], tensors: Sequence[FakeTensor]
) -> "_Answer | None":
    """Returns what `func` answers if that is known without PyTorch's own mode, else None."""
    if not func._schema.returns and func.name().partition(".")[0].endswith("_"):
        return False, [None]  # it edits its arguments
    if not tensors:
        return _ask_constructor(func, args, kwargs)
    if (targets := written(func, args, kwargs)) is not None:
        return _forms(targets[0] if len(targets) == 1 else tuple(targets), tensors)
    if func in CONVOLUTIONS and not kwargs:
        return _forms(convolved(func, args), (), tensors[0].fake_device)
    if (device := _one_device(kwargs, tensors)) is not None and (known := forms_of(func, args, kwargs)):
        return len(known) > 1, [_fresh(form, device) for form in known]
    return _ask_meta(func, args, kwargs, tensors) if _is_direct(func) else None


_aten = torch.ops.aten
_FILLS: Mapping[OpOverload, int] = {
    _aten.zeros.default: 0,
    _aten.ones.default: 0,
    _aten.rand.default: 0,
    _aten.randint.default: 1,
    _aten.randint.low: 2,
}
"""Which argument of a constructor is the size."""


def _fresh(form: Form, device: torch.device) -> _Form:
    return _Form(form.shape, form.strides, 0, form.dtype, device, same_as=None, view_of=None)


def _one_device(kwargs: Mapping[str, Any], tensors: Sequence[FakeTensor]) -> torch.device | None:
    """Returns the device of what is made of tensors of one device; None if they have several."""
    device = tensors[0].fake_device
    if any(tensor.fake_device != device for tensor in tensors):
        return None
    return torch.device(kwargs.get("device") or device)


def _ask_constructor(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "_Answer | None":
    """Returns the form of the tensor that `func` makes of plain arguments."""
    if func in _FILLS:
        size, dtype = args[_FILLS[func]], kwargs.get("dtype") or torch.get_default_dtype()
        form = Form(tuple(size), dense_strides(size), dtype)
        return False, [_fresh(form, torch.device(kwargs.get("device") or "cpu"))]
    if not any(argument.name == "device" for argument in func._schema.arguments):
        return None
    with no_dispatch():
        made = func(*args, **{**kwargs, "device": "meta"})
    return _forms(made, (), torch.device(kwargs.get("device") or "cpu"))


def _ask_meta(
    func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], tensors: Sequence[FakeTensor]
) -> "_Answer | None":
    """Returns what `func` answers on the meta device, None if it does not say.

    The mode of fake tensors takes milliseconds to find out the same.
    """
    if (device := _one_device(kwargs, tensors)) is None:
        return None
    if "device" in kwargs:
        kwargs = {**kwargs, "device": "meta"}
    metas: list[Tensor] = []
    with no_dispatch():
        bare_args = _without_device(args, metas)
        named = dict(zip(kwargs, _without_device(kwargs.values(), metas), strict=True))
        try:
            answer = func(*bare_args, **named)
        except NotImplementedError:  # no kernel for tensors without a device
            return None
    return _forms(answer, metas, device)


def _without_device(values: Iterable[Any], metas: list[Tensor]) -> list[Any]:
    """Returns arguments with meta tensors, which it adds to `metas`, in place of fake ones."""
    # Not a closure: one that calls itself is a cycle, which keeps storages alive until the collector comes.
    bare: list[Any] = []
    for value in values:
        if type(value) is FakeTensor:
            meta = torch.empty((), dtype=value.dtype, device="meta")
            meta.set_(value.untyped_storage(), value.storage_offset(), value.shape, value.stride())
            metas.append(meta)
            bare.append(meta)
        elif type(value) in (tuple, list):
            bare.append(_without_device(value, metas))
        else:
            bare.append(value)
    return bare


def _remember(at: tuple[Any, ...], answer: "_Answer | None") -> "_Answer | None":
    if answer is not None:
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[at] = answer
    return answer


def _describe(values: Iterable[Any], key: list[Any], tensors: list[FakeTensor]) -> bool:
    """Adds arguments to `key` and their tensors to `tensors`; returns False for what is not known."""
    for value in values:
        kind = type(value)
        if kind is FakeTensor:
            if value.constant is not None:
                return False
            tensors.append(value)
            key += (value.shape, value.stride(), value.storage_offset(), value.dtype, value.fake_device)
        elif kind in _PLAIN:
            key += (kind, value)  # 1, 1.0 and True are equal, and give different types
        elif kind in _SEVERAL:
            key.append(len(value))
            if not _describe(value, key, tensors):
                return False
        else:
            return False
    return True


def _forms(answer: Any, tensors: Sequence[Tensor], device: torch.device | None = None) -> _Answer:
    """Returns what to remember of an answer to `tensors`; `device`: if they are meta, that of the answer."""
    several = isinstance(answer, tuple)
    forms: list[_Form | None] = []
    storages = [tensor.untyped_storage()._cdata for tensor in tensors]
    fresh: set[int] = set()
    for out in answer if several else (answer,):
        if out is None:
            forms.append(None)
            continue
        if not isinstance(out, Tensor) or getattr(out, "constant", None) is not None:
            return None, []
        storage = out.untyped_storage()
        same = next((index for index, tensor in enumerate(tensors) if tensor is out), None)
        view = storages.index(storage._cdata) if storage._cdata in storages else None
        if view is None:
            if storage._cdata in fresh or storage.nbytes() != _extent_bytes(out):
                return None, []  # a view of new memory
            fresh.add(storage._cdata)
        forms.append(
            _Form(
                shape=tuple(out.shape),
                stride=out.stride(),
                offset=int(out.storage_offset()),
                dtype=out.dtype,
                device=device or out.device,
                same_as=same,
                view_of=view,
            )
        )
    return several, forms


def _extent_bytes(tensor: Tensor) -> int:
    """Returns the bytes between a tensor's first and last element."""
    if 0 in tensor.shape:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.itemsize
