"""What operations allocate inside on a GPU, beside their outputs: a GPU says it, once for each distinct call.

cuDNN turns maps from one layout to the other in a workspace, a sum over many pixels keeps partial sums in a
buffer, PyTorch's group norm copies what is in channels_last. Fake tensors know of none of it, and no formula
holds on the next GPU. So each call runs once on
tensors without content, under the counters of PyTorch's allocator. It runs in a process that ends
afterwards: a driver that lives for days holds nothing of the GPU. Answers are kept in
`$XDG_CACHE_HOME/tinytl`, per GPU and version of torch.
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tinytl.device import device_name
from tinytl.step_time.kept import keep, kept_file
from tinytl.step_time.own_process import in_own_process
from tinytl.training.mixed_precision import MixedPrecision, backends_restored

FORMAT = 1
"""Raised if what is asked changes, so that nobody uses what an older version has kept."""
LEAST_BYTES = 1 << 16
"""Operations on tensors of fewer bytes in all are not asked: what they allocate is nothing to a peak."""
_ATEN = torch.ops.aten
_ASKED: Mapping[str, Any] = {
    "convolution": _ATEN.convolution.default,
    "convolution_backward": _ATEN.convolution_backward.default,
    "sum": _ATEN.sum.dim_IntList,
    "mean": _ATEN.mean.dim,
    "var_mean": _ATEN.var_mean.correction,
    "native_group_norm": _ATEN.native_group_norm.default,
    "native_group_norm_backward": _ATEN.native_group_norm_backward.default,
    "native_batch_norm": _ATEN.native_batch_norm.default,
    "native_batch_norm_backward": _ATEN.native_batch_norm_backward.default,
}
"""The operations whose kernels allocate, by name."""
_NAMES = {func: name for name, func in _ASKED.items()}

logger = logging.getLogger(__name__)
_KNOWN: dict[str, int] = {}
_NO_ROOM: set[str] = set()
"""Calls for which the GPU had no room: not asked again in this process."""
_MAY_ASK = [True]
"""Whether this process may ask a GPU: not if it predicts for another one, nor after a failure."""


def call_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], *, tf32: bool) -> str | None:
    """Returns all that decides what `func(*args, **kwargs)` allocates inside, as JSON; None if nothing does.

    `args` may be fake tensors. `tf32`: whether 32-bit convolutions may round to tf32.
    """
    name = _NAMES.get(func)
    if name is None or sum(t.numel() * t.element_size() for t in args if isinstance(t, Tensor)) < LEAST_BYTES:
        return None
    given = {key: _described(value) for key, value in sorted(kwargs.items())}
    return json.dumps([name, tf32, _described(list(args)), given], separators=(",", ":"))


def scratch_bytes_of(
    calls: Collection[str], ask: Callable[[Sequence[str]], Mapping[str, int]] | None = None
) -> dict[str, int]:
    """Returns the bytes that each call needs beside its outputs; without those of which nobody has said it.

    Those that are not known are asked of this machine's GPU, all at once, in 10 to 20 s, by `ask` (default:
    `ask_gpu`, in a process of its own).
    """
    unknown = _unknown(calls)
    if unknown and _may_ask():
        _KNOWN.update(_kept())
        unknown = _unknown(calls)
        if unknown:
            _learn(unknown, ask or (lambda calls: in_own_process(ask_gpu, calls)))
    elif unknown and _MAY_ASK[0]:
        _MAY_ASK[0] = False
        logger.warning("no GPU is here to say what its kernels allocate, as one did before: not counted")
    return {call: _KNOWN[call] for call in calls if call in _KNOWN}


def may_learn(calls: Collection[str]) -> bool:
    """Whether `scratch_bytes_of` may say more of calls that were not known."""
    return any(call in _KNOWN for call in calls) or (bool(_unknown(calls)) and _may_ask())


def known_scratch() -> dict[str, int]:
    """Returns what is known so far, for another process."""
    if _may_ask():
        _KNOWN.update(_kept())
    return dict(_KNOWN)


def use_scratch(found: Mapping[str, int]) -> None:
    """Lets this process, which predicts for another, know what that one does, and ask no GPU itself."""
    _KNOWN.update(found)
    _MAY_ASK[0] = False


def ask_gpu(calls: Sequence[str], device: str = "cuda") -> dict[str, int]:
    """Runs calls on this process's GPU (`device`); returns the bytes that each needs beside its outputs.

    A call for which the GPU has no room is left out.
    """
    found: dict[str, int] = {}
    with backends_restored(), torch.no_grad():
        for call in calls:
            try:
                found[call] = _bytes_beside_outputs(call, torch.device(device))
            except torch.OutOfMemoryError:
                pass
            torch.cuda.empty_cache()  # no more than one call's tensors: trials may use this GPU
    return found


def made(call: str, device: torch.device) -> tuple[Any, list[Any], dict[str, Any]]:
    """Returns a call's operation, and its arguments on `device`, without content; sets how a GPU rounds."""
    name, tf32, args, kwargs = json.loads(call)
    MixedPrecision("tf32" if tf32 else "float32", device)
    return _ASKED[name], _real(args, device), {key: _real(value, device) for key, value in kwargs.items()}


def _unknown(calls: Collection[str]) -> list[str]:
    return sorted({call for call in calls if call not in _KNOWN and call not in _NO_ROOM})


def _may_ask() -> bool:
    return _MAY_ASK[0] and torch.cuda.is_available()


def _bytes_beside_outputs(call: str, device: torch.device) -> int:
    """Returns by how much the bytes requested of a GPU's allocator exceeded, at most, those that stay."""
    func, args, kwargs = made(call, device)
    func(*args, **kwargs)  # the first run may try several kernels, and allocate what the others find
    torch.cuda.reset_peak_memory_stats()
    outputs = func(*args, **kwargs)
    counted = torch.cuda.memory_stats()
    del outputs
    return int(counted["requested_bytes.all.peak"] - counted["requested_bytes.all.current"])


def _learn(unknown: Sequence[str], ask: Callable[[Sequence[str]], Mapping[str, int]]) -> None:
    try:
        found = ask(unknown)
    except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
        _MAY_ASK[0] = False
        reason = str(error).partition("\n")[0]
        logger.warning("the GPU does not say what its kernels allocate (%s): not counted", reason)
        return
    _KNOWN.update(found)
    _NO_ROOM.update(call for call in unknown if call not in found)
    about = _about()
    # Another process may have asked meanwhile. If both write at once, one asks again some day.
    keep(kept_file("gpu_scratch", about), about | {"bytes": _kept() | dict(found)})
    if len(found) < len(unknown):
        n_left = len(unknown) - len(found)
        logger.warning(
            "the GPU had no room to say what %d of %d operations allocate: not counted", n_left, len(unknown)
        )


def _kept() -> dict[str, int]:
    try:
        found = json.loads(kept_file("gpu_scratch", _about()).read_text())["bytes"]
        return {str(call): int(n_bytes) for call, n_bytes in found.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # not asked, or by another version


def _about() -> dict[str, Any]:
    return {"format": FORMAT, "gpu": device_name(torch.device("cuda")), "torch": torch.__version__}


def _described(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"shape": list(value.shape), "strides": list(value.stride()), "dtype": _name(value.dtype)}
    if isinstance(value, torch.dtype):
        return {"dtype": _name(value)}
    return [_described(item) for item in value] if isinstance(value, list | tuple) else value


def _real(described: Any, device: torch.device) -> Any:
    if isinstance(described, list):
        return [_real(item, device) for item in described]
    if not isinstance(described, dict):
        return described
    dtype = getattr(torch, described["dtype"])
    if "shape" not in described:
        return dtype
    return torch.empty_strided(described["shape"], described["strides"], dtype=dtype, device=device)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
