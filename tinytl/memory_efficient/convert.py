"""Makes a network lean, in place, and reports what it changed and what it left."""

from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils import parametrize

from tinytl.memory_efficient.batch import Batch
from tinytl.memory_efficient.block.reading import BlockReader, uses_batch_statistics
from tinytl.memory_efficient.block.spec import Execution
from tinytl.memory_efficient.block.stock import base_class, keeps_forward, reason_to_leave, reason_unfit
from tinytl.memory_efficient.block.structure import describe_block, is_norm_with_activation
from tinytl.memory_efficient.kept import Kept, find_kept
from tinytl.memory_efficient.lean_blocks import LeanBlock
from tinytl.memory_efficient.lean_functions import FUNCTIONS, calls_functions
from tinytl.memory_efficient.lean_modules import (
    Lean,
    LeanActivation,
    LeanAdaptiveAvgPool2d,
    LeanAnyConv,
    LeanAvgPool2d,
    LeanBatchNorm1d,
    LeanBatchNorm2d,
    LeanBatchNormAct2d,
    LeanCode,
    LeanConv2d,
    LeanConvTranspose,
    LeanDropout,
    LeanGroupNorm,
    LeanLeakyReLU,
    LeanMaxPool2d,
    make_lean_,
    make_stock_,
)
from tinytl.memory_efficient.lean_runs import LeanChain, LeanSequence, find_chains
from tinytl.memory_efficient.lean_samplewise import LeanSamplewise, is_samplewise
from tinytl.plural import counted

_BY_FORWARD: tuple[tuple[type[nn.Module], type[Lean]], ...] = (
    (nn.Conv2d, LeanConv2d),
    (nn.Conv1d, LeanAnyConv),
    (nn.Conv3d, LeanAnyConv),
    (nn.ConvTranspose1d, LeanConvTranspose),
    (nn.ConvTranspose2d, LeanConvTranspose),
    (nn.ConvTranspose3d, LeanConvTranspose),
    (nn.BatchNorm2d, LeanBatchNorm2d),
    (nn.BatchNorm1d, LeanBatchNorm1d),
    (nn.BatchNorm3d, LeanBatchNorm1d),
    (nn.GroupNorm, LeanGroupNorm),
    (nn.ReLU, LeanActivation),
    (nn.ReLU6, LeanActivation),
    (nn.Hardswish, LeanActivation),
    (nn.Hardsigmoid, LeanActivation),
    (nn.SiLU, LeanActivation),
    (nn.LeakyReLU, LeanLeakyReLU),
    (nn.AvgPool2d, LeanAvgPool2d),
    (nn.AdaptiveAvgPool2d, LeanAdaptiveAvgPool2d),
    (nn.MaxPool2d, LeanMaxPool2d),
    (nn.Dropout, LeanDropout),
)
_LEAN_ALREADY = (
    nn.Linear,
    nn.Identity,
    nn.Flatten,
    nn.Sigmoid,
    nn.Tanh,
    nn.GELU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.Mish,
    nn.Softplus,
    nn.PReLU,
    nn.LayerNorm,
    nn.Upsample,
    nn.UpsamplingBilinear2d,
    nn.ZeroPad2d,
    nn.ModuleList,
)
"""For these, torch already keeps no more than backward reads."""


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SMALL_MIB = 0.01
"""The text of a report does not name what keeps less."""


@dataclass
class ConversionReport:
    """What a conversion did: names of modules, as in `named_modules()`."""

    blocks: list[str] = field(default_factory=list)
    """Run as one function each."""
    samplewise: list[str] = field(default_factory=list)
    """Walked in slices, and recomputed from their input if `recompute` is `block`: what they compute is their
    own code."""
    code: list[str] = field(default_factory=list)
    """Their own code calls activations or pooling as functions, such as `F.relu`: these keep no more than
    lean modules do."""
    chains: list[str] = field(default_factory=list)
    """Their code calls children one after the other before anything else; these run in slices together."""
    modules: dict[str, str] = field(default_factory=dict)
    """Modules with a lean forward of their own, by name: their class. Modules inside a block count too: they
    are used if the block cannot run as one function."""
    batch_statistics: list[str] = field(default_factory=list)
    """Batch norms in training mode outside of blocks: they run as stock until `eval()`."""
    left: dict[str, str] = field(default_factory=dict)
    """Modules left as they are, by name: why."""
    kept: list[Kept] = field(default_factory=list)
    """What modules and functions keep for backward of a batch like the example, if there was one."""

    def __str__(self) -> str:
        lines = [f"{len(self.blocks)} blocks run as one function, {len(self.modules)} modules made lean"]
        if self.samplewise:
            lines.append(
                f"{len(self.samplewise)} blocks run a few samples at a time, and keep their input alone if "
                f"recompute is `block` ({self.samplewise[0]}, ...)"
            )
        if self.code:
            lines.append(
                f"{counted(len(self.code), 'module')} with code that calls activations or pooling, "
                f"which are lean ({self.code[0] or 'the network'}, ...)"
            )
        if self.batch_statistics:
            lines.append(
                f"{len(self.batch_statistics)} batch norms outside of blocks use batch statistics: they "
                f"keep what stock keeps ({self.batch_statistics[0]}, ...)"
            )
        lines += [f"left {name}: {why}" for name, why in self.left.items()]
        if self.kept:
            lines += self._kept_lines()
        return "\n".join(lines)

    def _kept_lines(self) -> list[str]:
        others = [one for one in self.kept if not one.lean]
        named = [one for one in others if one.mib >= SMALL_MIB]
        total, of_others = (sum(one.mib for one in some) for some in (self.kept, others))
        lines = [f"{total:.1f} MiB are kept for backward, {total - of_others:.1f} by lean modules, and by"]
        lines += map(str, named)
        if len(named) < len(others):
            lines.append(f"{len(others) - len(named)} others, each less than {SMALL_MIB} MiB")
        return lines


def make_memory_efficient_(
    net: nn.Module, how: Execution | None = None, *, example: Batch | None = None
) -> ConversionReport:
    """Gives every known module of `net` a forward that keeps no more than backward reads.

    Outputs, gradients, parameters, `state_dict` keys and module classes (`isinstance`) stay. Each forward
    decides what is kept, so `requires_grad`, `train()` and `eval()` may change later. Inputs are `(N, C, H,
    W)`; outputs lie in the format in which stock answers, and channels_last needs least time. Call it again
    after surgery on `net`, or for another `how`.

    With an `example`, a batch, the report says by MiB which modules and functions still keep tensors for
    backward with `net`'s present `requires_grad`. Raises what `kept.find_kept` does; `net` is lean then.

    Left as they are, and named in the report: modules with a forward of their own on the instance, with
    hooks, with parametrisations, with padding other than zeros, and unknown classes.
    """
    report = ConversionReport()
    how = how or Execution()
    _convert_(net, "", how, report, in_block=False)
    if example is not None:
        report.kept = find_kept(net, example)
    return report


def undo_memory_efficient_(net: nn.Module) -> None:
    """Gives every module of `net` the forward of its own class back."""
    for module in net.modules():
        make_stock_(module)


def _convert_(module: nn.Module, name: str, how: Execution, report: ConversionReport, in_block: bool) -> None:
    if parametrize.is_parametrized(module):
        report.left[name] = "is parametrised"
        return
    if not in_block:
        in_block = _convert_block_(name, module, how, report)
    if not in_block and is_samplewise(module) and reason_to_leave(module) is None:
        make_lean_(module, LeanSamplewise, how)
        report.samplewise.append(name)
    children = list(module.named_children())
    if not in_block and calls_functions(module) and reason_unfit(module) is None:
        _convert_code_(name, module, how, report)
    elif is_norm_with_activation(module) or not children:
        _convert_module_(name, module, how, report, in_block)
    for child_name, child in children:
        _convert_(child, f"{name}.{child_name}" if name else child_name, how, report, in_block)
    if children and not in_block and not isinstance(module, LeanSamplewise):
        _convert_run_(name, module, how, report)


def _convert_block_(name: str, module: nn.Module, how: Execution, report: ConversionReport) -> bool:
    paths = describe_block(module)
    if paths is None:
        return False
    reasons = {path: reason_to_leave(module.get_submodule(path)) for path in paths.modules()}
    inner = [reason_to_leave(child) for child in module.modules() if child is not module]
    if any(inner):
        report.left[name] = "as one function: " + next(
            (f"{path} {why}" for path, why in reasons.items() if why), next(why for why in inner if why)
        )
        return False
    make_lean_(module, LeanBlock, how)
    assert isinstance(module, LeanBlock)
    module.lean_reader = BlockReader(paths)
    report.blocks.append(name)
    return True


def _convert_code_(name: str, module: nn.Module, how: Execution, report: ConversionReport) -> None:
    if not isinstance(module, LeanSamplewise):
        make_lean_(module, LeanCode, how)
    vars(module)[FUNCTIONS] = how
    report.code.append(name)


def _convert_run_(name: str, module: nn.Module, how: Execution, report: ConversionReport) -> None:
    """Lets the children of a sequence, or those that a module's code calls first, run in slices together."""
    if reason_unfit(module) is not None:
        return
    if keeps_forward(module, nn.Sequential):
        make_lean_(module, LeanSequence, how)
        return
    chains = find_chains(module)
    firsts = [module.get_submodule(chain.names[0]) for chain in chains.values() if chain is not None]
    if any(isinstance(first, Lean) and not isinstance(first, LeanSequence) for first in firsts):
        make_lean_(module, LeanChain, how)
        vars(module)["lean_chains"] = chains
        report.chains.append(name)


def _convert_module_(
    name: str, module: nn.Module, how: Execution, report: ConversionReport, in_block: bool
) -> None:
    for cls, lean in _BY_FORWARD:
        if not isinstance(module, cls):
            continue
        why = reason_to_leave(module)
        if is_norm_with_activation(module):
            lean = LeanBatchNormAct2d
        elif why is None and not keeps_forward(module, cls):
            why = f"{base_class(module).__name__} has a forward of its own"
        if why is not None:
            report.left[name] = why
            return
        if isinstance(module, BATCH_NORMS) and uses_batch_statistics(module) and not in_block:
            report.batch_statistics.append(name)
        make_lean_(module, lean, how)
        report.modules[name] = base_class(module).__name__
        return
    if not isinstance(module, _LEAN_ALREADY):
        report.left[name] = f"{base_class(module).__name__} is not known"
