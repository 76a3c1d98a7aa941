"""Flags that several commands have: which study, and which budget."""

import argparse
from typing import TypeAlias

from tinytl.config.one_line_parser import OneLineParser
from tuner.config import StudyConfig

Commands: TypeAlias = "argparse._SubParsersAction[OneLineParser]"
"""The subparsers to which a command adds its own."""


def add_runs_dir_flag(parser: argparse.ArgumentParser) -> None:
    """Adds `--runs-dir`."""
    parser.add_argument(
        "--runs-dir",
        default=StudyConfig.runs_dir,
        metavar="DIR",
        help=f"folder of all studies, or a bucket: s3://BUCKET/PREFIX (default: {StudyConfig.runs_dir})",
    )


def add_study_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the study's name, `--runs-dir` and `--storage`."""
    parser.add_argument("name", metavar="NAME", help="name of the study")
    add_runs_dir_flag(parser)
    parser.add_argument("--storage", metavar="URL", help="Optuna storage (default: the study's own)")


def add_budget_flag(parser: "argparse._ActionsContainer") -> None:
    """Adds `--under-mib`."""
    parser.add_argument(
        "--under-mib",
        type=float,
        metavar="MIB",
        help="most that a training step may need, in MiB (default: the study's own budget)",
    )
