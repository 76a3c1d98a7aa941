"""What `python -m tinytl memory` prints: one configuration, or every method, norm, engine and micro-batch."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from tinytl.config.names import ALL_TRAINING_METHODS, ENGINES, METHODS, NORMS, SPARSE_FIELDS
from tinytl.config.plan import PLANNED_FIELDS, RECOMPUTED, Plan, describe, stock_part
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.device import planned_device
from tinytl.errors import ConfigError
from tinytl.library_pages import release_library_pages
from tinytl.memory.measure import process_peak_mib
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.paper import paper_memory
from tinytl.memory.predict import predict_memory, resolve_plan
from tinytl.memory.predict_many import predict_memories
from tinytl.memory.prediction import WORKSPACES
from tinytl.memory.stock_inference import stock_inference_peak_mib
from tinytl.networks.backbones import needs_two_samples
from tinytl.networks.update_scheme import layers_of, scheme_of

Row = dict[str, Any]
BAR_WIDTH = 24
"""Characters of the longest bar of a curve."""


def memory_row(config: TrainConfig, measure: bool) -> Row:
    """Returns every figure of one configuration; with `measure`, also runs it."""
    if measure:
        release_library_pages()
    planned = resolve_plan(config)
    predicted = predict_memory(planned)
    row: Row = {"predicted_peak_mib": predicted.peak_mib}
    if measure:
        row["measured_peak_mib"] = measure_memory(planned)
        row["process_peak_mib"] = process_peak_mib()
    row["stock_inference_peak_mib"] = stock_inference_peak_mib(config)
    row["paper_mb"] = paper_memory(planned)
    row["breakdown_mib"] = dict(predicted.parts_mib)
    row["peak_at"] = predicted.peak_at
    row["plan"] = {name: getattr(planned, name) for name in ("plan", *PLANNED_FIELDS)}
    if planned.method == "Sparse":
        row["update_scheme"] = planned.update_scheme
    return row


def all_rows(config: TrainConfig, given: Mapping[str, Any], measure: bool) -> list[Row]:
    """Returns a row for each norm, method, engine and micro-batch: the whole batch and one sample.

    An engine or a micro-batch size that was `given` stays. There is no row for what is not defined: under
    batch norm a micro-batch, or one sample if maps shrink to one pixel; and frozen statistics of weights that
    have none (Scratch, or under weight standardisation), nor of Sparse without inverted residuals.
    """
    if config.plan == "budget":
        raise ConfigError("--all shows what each needs, over the budget or not: leave out --plan budget")
    engines = [config.engine] if "engine" in given else list(reversed(ENGINES))
    micros = [config.micro_batch_size] if "micro_batch_size" in given else [config.batch_size, 1]
    variants: dict[TrainConfig, None] = {}
    methods = [method for method in METHODS if method != "Sparse" or _has_layers(config)]
    for norm, method, engine, micro in itertools.product(NORMS, methods, engines, micros):
        if norm == "frozen_bn" and (method == "Scratch" or config.weight_standardization):
            continue
        of_method = dataclasses.replace(
            config, norm="group_norm", method=method, lr_ratio=LrRatio(), **_of_method(config, method)
        )
        if norm == "batch_norm" and config.batch_size == 1 and needs_two_samples(of_method):
            continue
        variant = dataclasses.replace(
            of_method,
            norm=norm,
            engine=engine,
            micro_batch_size=config.batch_size if norm == "batch_norm" else micro,
            checkpoint="none" if (config.checkpoint, engine) == ("depthwise", "stock") else config.checkpoint,
        )
        variants[variant] = None
    predict_memories(list(variants))  # several at a time; each row then finds its own
    return [
        {"method": v.method, "norm": v.norm, "engine": v.engine, "micro_batch_size": v.micro_batch_size}
        | memory_row(v, measure)
        for v in variants
    ]


def _of_method(config: TrainConfig, method: str) -> dict[str, Any]:
    """Returns the fields that not every method has: at their defaults if `method` has them not."""
    defaults = TrainConfig()
    fields = {name: getattr(config if method == "Sparse" else defaults, name) for name in SPARSE_FIELDS}
    stored = "float32" if method in ALL_TRAINING_METHODS else config.frozen_weights
    return fields | {"frozen_weights": stored}


def _has_layers(config: TrainConfig) -> bool:
    """Whether the network has convolutions that method Sparse can train."""
    try:
        return bool(layers_of(config))
    except ConfigError:
        return False


def curve_text(config: TrainConfig, curve: Sequence[Plan]) -> str:
    """Returns the plans of a configuration as a table, with a bar for the memory of each."""
    most = max(plan.peak_memory_mib for plan in curve)
    lines = [
        f"{_title(config)}: plans that no other beats",
        f"{'MiB':>8} {'slowdown':>9} {'at a time':>10}  {'recomputed':<28}",
    ]
    for plan in curve:
        bar = "█" * max(1, round(BAR_WIDTH * plan.peak_memory_mib / most))
        part = stock_part(plan)
        recomputed = RECOMPUTED[plan.checkpoint] + (f" ({part} stock)" if part else "")
        lines.append(
            f"{plan.peak_memory_mib:>8.1f} {plan.slowdown:>9.2f} {plan.micro_batch_size:>10}  "
            f"{recomputed:<28} {bar}"
        )
    return "\n".join(lines)


def row_text(config: TrainConfig, row: Row) -> str:
    """Returns one configuration's figures as lines."""
    planned = resolve_plan(config)
    lines = [
        _title(config),
        f"  {config.engine} engine, plan {config.plan}: {describe(planned)}",
        *_trains(planned),
        f"  predicted peak         {row['predicted_peak_mib']:8.1f} MiB at {row['peak_at']}",
    ]
    lines += [f"    {part:<20} {mib:8.1f} MiB" for part, mib in row["breakdown_mib"].items()]
    if planned_device(config.device).type == "cuda" and WORKSPACES not in row["breakdown_mib"]:
        lines.append(f"    {WORKSPACES:<20}        ? MiB, which a GPU has to say: cuBLAS's and cuDNN's")
    if "measured_peak_mib" in row:
        lines.append(f"  measured peak          {row['measured_peak_mib']:8.1f} MiB (allocator)")
        lines.append(f"  whole process          {row['process_peak_mib']:8.1f} MiB (resident)")
    lines.append(f"  stock inference        {row['stock_inference_peak_mib']:8.1f} MiB (whole batch)")
    lines.append(f"  the paper's formula    {row['paper_mb']:8.1f} MB")
    return "\n".join(lines)


def _trains(planned: TrainConfig) -> list[str]:
    """Returns what method Sparse trains; a budget, or `update_blocks`, has chosen it."""
    if planned.method != "Sparse":
        return []
    return [f"  trains {scheme_of(planned).describe(layers_of(planned))}"]


def table_text(config: TrainConfig, rows: Sequence[Row]) -> str:
    """Returns the table of `all_rows`."""
    measured = "measured_peak_mib" in rows[0]
    header = f"{'norm':<11} {'method':<13} {'engine':<7} {'micro':>5} {'predicted':>10}"
    header += f" {'measured':>10}" if measured else ""
    lines = [
        f"{config.backbone}, batch {config.batch_size}, {config.resolution} px, {config.num_classes} "
        f"classes, {config.optimizer}; peak of a training step in MiB, the paper's formula in MB",
        f"{header} {'paper':>8}  peak at",
    ]
    for row in rows:
        line = f"{row['norm']:<11} {row['method']:<13} {row['engine']:<7} {row['micro_batch_size']:>5}"
        line += f" {row['predicted_peak_mib']:>10.1f}"
        line += f" {row['measured_peak_mib']:>10.1f}" if measured else ""
        lines.append(f"{line} {row['paper_mb']:>8.1f}  {row['peak_at']}")
    return "\n".join(lines)


def _title(config: TrainConfig) -> str:
    return (
        f"{config.method} on {config.backbone}, {config.norm}, batch {config.batch_size}, "
        f"{config.resolution} px, {config.num_classes} classes, {config.optimizer}"
    )
