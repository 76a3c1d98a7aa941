"""Command-line flags of TrainConfig's fields: text to value, and help from the fields' own descriptions."""

import argparse
import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from tinytl.config.flat import FIELD_ALIASES, field_names
from tinytl.config.names import RANDOM_BRANCHES_LR_RATIO
from tinytl.config.one_line_parser import OneLineParser
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.errors import ConfigError, choose

_NONE = ("none", "null", "")


SECTIONS = {
    "data": (
        "dataset data_dir loading loader_workers skip_broken exclude min_per_class num_classes resolution "
        "crop_scale_min flip rand_augment"
    ),
    "network": (
        "backbone weights lite_weights input_mean input_std norm gn_channel_per_group weight_standardization "
        "dropout"
    ),
    "what is updated": (
        "method update_blocks update_layers channel_ratio bias_blocks select update_scheme n_groups "
        "downsample_ratio expand kernel_size kernel_clipping act_func upsample_type"
    ),
    "training": (
        "epochs batch_size optimizer momentum base_lr lr_schedule gamma warmup_epochs weight_decay "
        "label_smoothing class_weighting sampling mixup_alpha cutmix_alpha weight_average metric seed "
        "data_seed"
    ),
    "memory and device": (
        "plan budget_mib micro_batch_size checkpoint engine stock_below_kib memory_format slice_mib "
        "cuda_graph frozen_weights precision moments device"
    ),
}
"""Sections of a command's help, and the fields of TrainConfig that each lists."""
Commands: TypeAlias = "argparse._SubParsersAction[OneLineParser]"
"""What a command adds its parser to."""


def field_docs(cls: type) -> dict[str, str]:
    """Returns the string below each field of a dataclass, as one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, beneath in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(beneath, ast.Expr):
            assert isinstance(field.target, ast.Name) and isinstance(beneath.value, ast.Constant)
            docs[field.target.id] = " ".join(str(beneath.value.value).split())
    return docs


def parse_field(name: str, text: str) -> Any:
    """Parses the text given for a field (a flat name such as `lr_ratio.late`) as a value of its type.

    Raises:
        ConfigError: for an unknown field, or for text that is not of its type.
    """
    name = choose("parameter", FIELD_ALIASES.get(name, name), field_names())
    group, cls = (name.removeprefix("lr_ratio."), LrRatio) if "." in name else (name, TrainConfig)
    hint = typing.get_type_hints(cls)[group]
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(None) in kinds and text.lower() in _NONE:
        return None
    kind = kinds[0]
    if str in kinds[1:]:  # a number, or a word
        return int(text) if text.strip().isdecimal() else text
    if kind is bool:
        words = {"yes": True, "true": True, "no": False, "false": False}
        if text.lower() not in words:
            raise ConfigError(f"{name}={text!r}: say yes or no")
        return words[text.lower()]
    if typing.get_origin(kind) is tuple:
        values = tuple(_number(name, part, float) for part in text.split(","))
        return values * 3 if len(values) == 1 else values
    return text if kind is str else _number(name, text, kind)


def flag_of(field: str) -> str:
    """Returns the flag of a field of TrainConfig."""
    short = next((alias for alias, name in FIELD_ALIASES.items() if name == field), field)
    return "--" + short.replace("_", "-")


def add_config_flags(
    parser: argparse.ArgumentParser, names: Iterable[str], default: str | None = None
) -> None:
    """Adds a flag for each named field of TrainConfig, by section, with its description, type and default.

    `default` says in words what a missing flag means, if that is not the field's own default.
    """
    docs = field_docs(TrainConfig)
    defaults = TrainConfig()
    wanted = set(names)
    for section, fields in SECTIONS.items():
        shown = [name for name in fields.split() if name in wanted]
        group = parser.add_argument_group(section) if shown else parser
        for name in shown:
            value = getattr(defaults, name)
            shown_default = default or _shown(value)
            # Such a flag alone means yes.
            alone: dict[str, Any] = {"nargs": "?", "const": "yes"} if isinstance(value, bool) else {}
            group.add_argument(
                flag_of(name),
                dest=name,
                **alone,
                metavar=name.rpartition("_")[2].upper(),
                help=f"{docs[name]} (default: {shown_default})".replace("%", "%%"),
            )


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return "unset" if default is None else f"{default}"


def add_lr_ratio_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--lr-ratio GROUP=RATIO`, which may be given once per group."""
    groups = ", ".join(field_docs(LrRatio))
    parser.add_argument_group("learning rates by group").add_argument(
        "--lr-ratio",
        action="append",
        default=[],
        metavar="GROUP=RATIO",
        help=f"learning rate of a parameter group as a multiple of base_lr; repeat for {groups} "
        f"(default: 1; lite_residual: {RANDOM_BRANCHES_LR_RATIO:g} if it starts at random)",
    )


def add_download_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--download`, for `tinytl.data.load.download_dataset`."""
    parser.add_argument(
        "--download",
        action="store_true",
        help="first download the data set's archives into --data-dir if they are missing",
    )


def given_fields(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the flat fields that were given on the command line, parsed."""
    names = set(field_names())
    flat = {
        name: parse_field(name, text)
        for name, text in vars(args).items()
        if name in names and isinstance(text, str)
    }
    for group, text in split_assignments("--lr-ratio", getattr(args, "lr_ratio", [])):
        flat[f"lr_ratio.{group}"] = parse_field(f"lr_ratio.{group}", text)
    return flat


def split_assignments(flag: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """Splits `KEY=VALUE` texts. Raises ConfigError for one without a key or `=`."""
    pairs = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{flag} {text}: write KEY=VALUE")
        pairs.append((key.strip(), value.strip()))
    return pairs


def _number(name: str, text: str, kind: type[float] | type[int]) -> float | int:
    try:
        return kind(text)
    except ValueError:
        what = "whole number" if kind is int else "number"
        raise ConfigError(f"{name}={text!r} is not a {what}") from None
