"""Which module runs now, forward or backward."""

from typing import Any

from torch import nn
from torch.utils.module_tracker import ModuleTracker


class RunningModules(ModuleTracker):
    """The modules that run now, also those that a checkpoint recomputes in backward.

    Hooks of torch's class would keep their tensors alive, and confuse the current place in backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.again: list[str] = []
        """Names of the modules that are being recomputed, outermost first."""

    def _fw_pre_hook(self, mod: nn.Module, input: Any) -> None:
        if self.is_bw:
            self.again.append(self._get_mod_name(mod))
        else:
            super()._fw_pre_hook(mod, input)

    def _fw_post_hook(self, mod: nn.Module, input: Any, output: Any) -> None:
        if self.is_bw:
            self.again.pop()
        else:
            super()._fw_post_hook(mod, input, output)

    def place(self) -> str:
        """Returns the innermost module that runs now, and the pass."""
        names = self.again[-1:] or [name for name in self.parents if name != "Global"]
        # Between modules, the network computes the global mean. Outside it are input, loss and optimiser,
        # which allocates little.
        deepest = max(names, key=len).partition(".")[2] or "global mean" if names else "input or loss"
        return f"{deepest} {'backward' if self.is_bw else 'forward'}"
