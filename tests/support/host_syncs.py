"""What makes the host wait for a GPU, counted on fake tensors of one."""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense.default,  # item(), float(), bool(), an index
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,  # their results' sizes depend on values
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
}
COPIES = {aten._to_copy.default, aten.copy_.default}


class HostSyncs(TorchDispatchMode):
    """Lists the operations that read a GPU's values on the host, or copy between the two and wait."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [arg for arg in [*args, *(kwargs or {}).values()] if isinstance(arg, Tensor)]
        if func in READS and any(_is_on_gpu(tensor) for tensor in tensors):
            self.found.append(str(func))
        out = func(*args, **(kwargs or {}))
        waits = not (kwargs or {}).get("non_blocking") and not any(arg is True for arg in args)
        if func in COPIES and waits and len({_is_on_gpu(tensor) for tensor in [*tensors, out]}) == 2:
            self.found.append(str(func))
        return out


def _is_on_gpu(tensor: Tensor) -> bool:
    return isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda"
