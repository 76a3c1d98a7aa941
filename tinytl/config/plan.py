"""How a configuration runs: how many samples at a time, and what backward recomputes.

Neither changes a gradient. A plan sets `micro_batch_size`, `checkpoint`, `stock_below_kib`, `memory_format`
and, on a GPU, `slice_mib` and `cuda_graph` if the configuration leaves them open:

- `fast`: the whole batch, nothing recomputed, and if that is faster, small blocks or all as PyTorch's own; on
  a GPU as a CUDA graph if a pass is short.
- `smallest`: the least memory.
- `budget`: the fastest choice whose predicted peak fits `budget_mib`.

Nothing is executed: a prediction says what a choice needs, and times that were measured once on this machine
(`tinytl.step_time`) how long it takes.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tinytl.config.names import ALL_STOCK_KIB
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError


class Needs(NamedTuple):
    """What a configuration that leaves no choice to its plan needs."""

    peak_mib: float
    """Predicted peak of a training step."""
    estimate_s: Callable[[], float]
    """Estimates the time of a training step: the first estimate on a machine measures how fast that is."""

    @property
    def seconds(self) -> float:
        """Estimated time of a training step."""
        return self.estimate_s()


Ask = Callable[[TrainConfig], Needs]

SMALL_INPUT_PIXELS = 300_000
"""Pixels of a micro-batch (samples x height x width) from which lean blocks are always the faster ones on a
CPU: only below, others are looked at."""
STOCK_BELOW_KIB = (0.0, 1024.0, ALL_STOCK_KIB)
"""Largest intermediate under which a block runs as PyTorch's own: none do, small ones, all."""
SLICES_MIB_ON_GPU = (None, 8.0)
"""Largest intermediate of a slice: the engine's own, few launches, and a smaller one. On a CPU the engine's
own is best at both, as it fits the cache."""
LAUNCH_BOUND_PIXELS = 64 * 224**2
"""Pixels of a micro-batch up to which plan `fast` runs as a CUDA graph: there a GPU waits for launches. An
assumption: no GPU has measured it. A run that is long enough measures for itself."""
PLANNED_FIELDS = (
    "micro_batch_size",
    "checkpoint",
    "stock_below_kib",
    "memory_format",
    "slice_mib",
    "cuda_graph",
)
"""What a plan sets."""
RECOMPUTED = {"none": "nothing", "depthwise": "depthwise convolutions", "all": "every block"}
"""What backward recomputes under each `checkpoint`, in words."""
NEARLY_LEAST = 1.005
"""A faster choice within this factor of the least memory counts as the least."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A way to run a configuration, with what it needs."""

    micro_batch_size: int
    checkpoint: str
    stock_below_kib: float
    peak_memory_mib: float
    """Predicted peak of a training step, in MiB."""
    slowdown: float
    """Time of a step over that of the configuration's fastest plan: 1 or more."""
    slice_mib: float | None = None
    """None: the engine's own, see `TrainConfig`."""
    cuda_graph: bool | None = None
    """None: no."""
    memory_format: str | None = None
    """None: channels_last."""

    def of(self, config: TrainConfig) -> TrainConfig:
        """Returns `config`, run by this plan."""
        return dataclasses.replace(
            config,
            plan="fast",
            budget_mib=None,
            micro_batch_size=self.micro_batch_size,
            checkpoint=self.checkpoint,
            stock_below_kib=self.stock_below_kib,
            slice_mib=self.slice_mib,
            cuda_graph=self.cuda_graph,
            memory_format=self.memory_format,
        )

    def describe(self) -> str:
        """Returns how it runs, in words."""
        return f"{self.micro_batch_size} at a time, {_in_words(self, bool(self.cuda_graph))}"


def not_beaten(plans: Sequence[Plan]) -> list[Plan]:
    """Returns the plans that no other beats in both memory and time, the fastest first."""
    curve: list[Plan] = []
    for plan in sorted(plans, key=lambda plan: (plan.slowdown, plan.peak_memory_mib)):
        if not curve or plan.peak_memory_mib < curve[-1].peak_memory_mib:
            curve.append(plan)
    return curve


def least_within(curve: Sequence[Plan], max_slowdown: float = math.inf) -> Plan:
    """Returns the plan of a curve with the least memory that is at most so much slower than the fastest."""
    return min(
        (plan for plan in curve if plan.slowdown <= max_slowdown), key=lambda plan: plan.peak_memory_mib
    )


def fastest_within(curve: Sequence[Plan], budget_mib: float) -> Plan | None:
    """Returns the fastest plan of a curve that fits `budget_mib`, None if none does."""
    return next((plan for plan in curve if plan.peak_memory_mib <= budget_mib), None)


class UnderFloorError(ConfigError):
    """No way to run a configuration fits its budget; `smallest` needs the least."""

    def __init__(self, message: str, smallest: TrainConfig) -> None:
        super().__init__(message, smallest)  # all of them, so that the error travels between processes
        self.smallest = smallest

    def __str__(self) -> str:
        return str(self.args[0])


def is_planned(config: TrainConfig) -> bool:
    """Whether the configuration leaves nothing to its plan."""
    unset = config.micro_batch_size is None or config.stock_below_kib is None
    return not unset and config.checkpoint != "auto"


def lean_plan(config: TrainConfig) -> TrainConfig:
    """Returns `config` with its open choices set: the whole batch, nothing recomputed, every block lean."""
    checkpoint = "none" if config.checkpoint == "auto" else config.checkpoint
    return _planned(config, config.samples_in_memory, checkpoint, 0.0)


def formats(config: TrainConfig) -> list[TrainConfig]:
    """Returns the ways to run the whole batch that may be the fastest, lean first.

    Lean alone if that is known to be, or if blocks are to be recomputed, which only lean ones are.
    """
    lean = lean_plan(config)
    settled = config.engine == "stock" or config.stock_below_kib is not None or lean.checkpoint != "none"
    if settled or not _is_small(config):
        return [lean]
    return [dataclasses.replace(lean, stock_below_kib=kib) for kib in STOCK_BELOW_KIB]


def formats_to_measure(config: TrainConfig) -> list[TrainConfig]:
    """Returns `formats`, and those whose time no estimate knows: PyTorch's own blocks on contiguous maps, and
    on a GPU each of them as a CUDA graph.
    """
    found = formats(config)
    if len(found) > 1 and config.memory_format is None:
        found.append(dataclasses.replace(found[-1], memory_format="contiguous"))
    return found + [dataclasses.replace(choice, cuda_graph=True) for choice in found if _may_record(choice)]


def fast_plan(config: TrainConfig, ask: Ask) -> TrainConfig:
    """Returns `config` with its open choices set for speed."""
    found = formats(config)
    fast = found[0] if len(found) == 1 else min(found, key=lambda choice: ask(choice).seconds)
    return dataclasses.replace(fast, cuda_graph=True) if _may_record(fast) else fast


def resolve(config: TrainConfig, ask: Ask) -> TrainConfig:
    """Returns `config` with its open choices set by its plan.

    Raises:
        UnderFloorError: if no choice fits `budget_mib`. The message names the least that any choice needs.
    """
    if config.plan == "smallest":
        return _smallest(config, ask)
    fast = fast_plan(config, ask)
    if config.plan == "fast":
        return fast
    assert config.budget_mib is not None
    if ask(fast).peak_mib <= config.budget_mib:
        return fast
    eager = dataclasses.replace(fast, cuda_graph=config.cuda_graph)
    if eager != fast and ask(eager).peak_mib <= config.budget_mib:
        return eager
    smallest = _smallest(config, ask)
    floor_mib = ask(smallest).peak_mib
    if floor_mib > config.budget_mib:
        raise UnderFloorError(
            f"budget_mib={config.budget_mib:g} is under the least that {config.method} with {config.norm} on "
            f"{config.backbone} needs at {config.resolution} px: {floor_mib:.1f} MiB with "
            f"{describe(smallest)}",
            dataclasses.replace(smallest, plan="smallest", budget_mib=None),
        )
    fitting = [choice for choice in choices(config) if ask(choice).peak_mib <= config.budget_mib]
    return min(fitting, key=lambda choice: ask(choice).seconds)


def choices(config: TrainConfig) -> list[TrainConfig]:
    """Returns every way to run the blocks of `config` lean that its plan may choose: most samples at a time
    first, then what recomputes least, then the largest slices.
    """
    micros = [config.samples_in_memory]
    if config.micro_batch_size is None and config.norm != "batch_norm":  # whose statistics are the batch's
        micros = [n for n in range(config.batch_size, 0, -1) if config.batch_size % n == 0]
    checkpoints: tuple[str, ...] = (config.checkpoint,)
    if config.checkpoint == "auto":
        # Stock has no part of a block to recompute.
        checkpoints = ("none", "all") if is_all_stock(config) else ("none", "depthwise", "all")
    return [
        dataclasses.replace(_planned(config, micro, checkpoint, 0.0), slice_mib=slice_mib)
        for micro in micros
        for checkpoint in checkpoints
        for slice_mib in _slices_mib(config)
    ]


def describe(config: TrainConfig) -> str:
    """Returns a planned configuration's way to run, in words."""
    return f"micro-batches of {config.micro_batch_size}, {_in_words(config, is_recorded(config))}"


def is_all_stock(config: TrainConfig) -> bool:
    """Whether no block is lean."""
    kib = config.stock_below_kib
    return config.engine == "stock" or (kib is not None and kib >= ALL_STOCK_KIB)


def inserts_checkpoints(planned: TrainConfig) -> bool:
    """Whether PyTorch's way recomputes the blocks: lean ones do so by themselves, but not if batch norm uses
    the batch's statistics.
    """
    return planned.checkpoint == "all" and (is_all_stock(planned) or planned.norm == "batch_norm")


def graph_refusal(planned: TrainConfig) -> str | None:
    """Returns why no step of a planned configuration can be recorded as CUDA graphs; None if one can."""
    # `status` reads plans and has no use for torch.
    from tinytl.device import has_graphs

    if not has_graphs(planned.device):
        return "a CPU has none"
    if planned.precision == "float16":
        return "float16 scales its loss, and the host reads whether a step overflowed"
    if inserts_checkpoints(planned):
        return "PyTorch's way to recompute blocks reads the state of the GPU's random numbers"
    return None


def is_recorded(planned: TrainConfig) -> bool:
    """Whether steps of a planned configuration are to run as CUDA graphs."""
    return bool(planned.cuda_graph) and graph_refusal(planned) is None


def releases_gradients(planned: TrainConfig) -> bool:
    """Whether the optimiser takes gradients of a planned configuration as backward makes them, and frees
    them.

    One pass has to make them. It is done if blocks are recomputed: without that, activations are at their
    peak before there are gradients, and nothing is saved.
    """
    one_pass = planned.samples_in_memory >= planned.batch_size
    needs_all = planned.precision == "float16" or is_recorded(planned)  # float16 first looks for an overflow
    return planned.checkpoint == "all" and one_pass and not needs_all


def stock_part(planned: TrainConfig | Plan) -> str:
    """Returns what of a planned lean network runs as PyTorch's own, in words: nothing is an empty text."""
    if not planned.stock_below_kib:
        return ""
    return "all" if planned.stock_below_kib >= ALL_STOCK_KIB else "small blocks"


def _in_words(planned: TrainConfig | Plan, recorded: bool) -> str:
    words = [f"{RECOMPUTED[planned.checkpoint]} recomputed"]
    part = stock_part(planned)
    if part:
        words.append(f"{part} as PyTorch's own")
    if planned.memory_format == "contiguous":
        words.append("contiguous maps")
    if planned.slice_mib is not None:
        words.append(f"slices of {planned.slice_mib:g} MiB")
    if recorded:
        words.append("as a CUDA graph")
    return ", ".join(words)


def _slices_mib(config: TrainConfig) -> tuple[float | None, ...]:
    # `status` reads plans and has no use for torch.
    from tinytl.device import planned_device

    # With batch statistics a block is one slice.
    settled = is_all_stock(config) or config.norm == "batch_norm" or config.slice_mib is not None
    if settled or planned_device(config.device).type == "cpu":
        return (config.slice_mib,)
    return SLICES_MIB_ON_GPU


def _is_small(config: TrainConfig) -> bool:
    from tinytl.device import planned_device

    if planned_device(config.device).type != "cpu":  # launches, and cuDNN's choice of kernels, decide there
        return True
    return config.samples_in_memory * config.resolution**2 < SMALL_INPUT_PIXELS


def _may_record(planned: TrainConfig) -> bool:
    """Whether the plan may choose a CUDA graph where `cuda_graph` is left open."""
    if planned.cuda_graph is not None or graph_refusal(planned) is not None:
        return False
    return planned.samples_in_memory * planned.resolution**2 <= LAUNCH_BOUND_PIXELS


def _planned(config: TrainConfig, micro: int, checkpoint: str, stock_below_kib: float) -> TrainConfig:
    if config.stock_below_kib is not None:
        stock_below_kib = config.stock_below_kib
    return dataclasses.replace(
        config, micro_batch_size=micro, checkpoint=checkpoint, stock_below_kib=stock_below_kib
    )


def _smallest(config: TrainConfig, ask: Ask) -> TrainConfig:
    every = choices(config)
    # Fewer samples at a time need less memory, except for gradients: with two or more passes they live beside
    # activations.
    micros = sorted({choice.samples_in_memory for choice in every})
    ends = {micros[0], micros[-1]}
    needs = {choice: ask(choice) for choice in every if choice.samples_in_memory in ends}
    least = min(need.peak_mib for need in needs.values())
    # The first of `choices` is the fastest, so that nobody has to measure the machine.
    return next(choice for choice, need in needs.items() if need.peak_mib <= NEARLY_LEAST * least)
