"""PyTorch's mode of fake tensors, in a process that loads no compiler unless an operation needs it.

`FakeTensorMode` imports `torch._dynamo` and sympy: 200 MiB, and some seconds. All but a few of a step's
operations are answered without them (`fake_tensors`). At the first one that is not, the mode becomes a whole
one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from tinytl.memory.fake_tensors import RememberedAnswers

_DEVICE_OF = torch.ops.prim.device.default
_NNPACK = torch.ops.aten._nnpack_available.default
_RELAID = torch.ops.aten.as_strided_.default
_LIFTED = torch.ops.aten.lift_fresh.default
"""Takes the numbers of `torch.tensor(numbers)` in."""


class LightFakeMode(FakeTensorMode):
    """A `FakeTensorMode` of default settings, which fills in most of itself when that is needed."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: nothing here is compiled, and the guard around each call imports the compiler."""
        return False

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)
        # What entering it, and making a tensor, reads.
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        self.enter_stack = []
        self.shape_env = None
        self.allow_meta = self._allow_unsafe_data_ptr_access = True
        self.answers = RememberedAnswers(self)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Answers an operation on fake tensors."""
        if func is _DEVICE_OF:
            return args[0].fake_device
        if func is _RELAID:
            with no_dispatch():
                func(*args)
            return args[0]
        if func.namespace == "profiler" or func is _NNPACK:
            return func(*args, **(kwargs or {}))
        if func is _LIFTED and type(args[0]) is Tensor and args[0].device.type == "cpu":
            with self:
                return torch.empty_strided(args[0].shape, args[0].stride(), dtype=args[0].dtype)

        def ask() -> Any:
            self._become_whole()
            return super(LightFakeMode, self).__torch_dispatch__(func, types, args, kwargs or {})

        return self.answers.answer(func, args, kwargs, ask)

    def _become_whole(self) -> None:
        """Does what a `FakeTensorMode` does when it is made, if that is still to be done."""
        if "fake_tensor_converter" not in vars(self):
            begun = dict(vars(self))
            super().__init__()
            vars(self).update(begun)
