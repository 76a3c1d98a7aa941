import argparse
import dataclasses
from typing import Any

import pytest

from tinytl.config.flags import (
    SECTIONS,
    add_config_flags,
    add_lr_ratio_flag,
    field_docs,
    given_fields,
    parse_field,
    split_assignments,
)
from tinytl.config.flat import field_names
from tinytl.config.one_line_parser import OneLineParser
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.errors import ConfigError


@pytest.mark.parametrize("cls", [TrainConfig, LrRatio])
def test_every_field_is_described(cls: type) -> None:
    docs = field_docs(cls)
    assert list(docs) == [f.name for f in dataclasses.fields(cls)]
    assert all(len(text) > 10 and text.endswith(".") and "\n" not in text for text in docs.values())


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", "16", 16),
        ("base_lr", "3e-4", 3e-4),
        ("lr_ratio.late", "0.6", 0.6),
        ("lr_ratio.lite_residual", "4", 4.0),
        ("lr_ratio.lite_residual", "none", None),
        ("method", "FT-Full", "FT-Full"),
        ("weights", "none", "none"),
        ("data_dir", "pictures", "pictures"),
        ("data_dir", "none", None),
        ("num_classes", "7", 7),
        ("downsample_ratio", "None", None),
        ("downsample_ratio", "4", 4),
        ("micro_batch_size", "null", None),
        ("crop_scale_min", "0.35", 0.35),
        ("flip", "Yes", True),
        ("flip", "false", False),
        ("flip", "none", None),
        ("input_mean", "0.5", (0.5, 0.5, 0.5)),
        ("input_std", "0.1,0.2,0.3", (0.1, 0.2, 0.3)),
        ("input_std", "none", None),
        ("lite_kernel_size", "5", 5),
        ("BATCH_SIZE", "2", 2),
    ],
)
def test_text_becomes_a_value_of_the_field_s_type(name: str, text: str, value: Any) -> None:
    parsed = parse_field(name, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("batch_size", "many", "batch_size='many' is not a whole number"),
        ("batch_size", "2.5", "batch_size='2.5' is not a whole number"),
        ("batch_size", "none", "batch_size='none' is not a whole number"),
        ("base_lr", "fast", "base_lr='fast' is not a number"),
        ("flip", "maybe", "flip='maybe': say yes or no"),
        ("input_mean", "0.5,red,0.5", "input_mean='red' is not a number"),
        ("lr_ratio.late", "none", "lr_ratio.late='none' is not a number"),
        ("batchsize", "4", "unknown parameter 'batchsize': did you mean 'batch_size'?"),
    ],
)
def test_bad_text_is_refused(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_field(name, text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", [name for name in field_names() if not name.startswith("lr_ratio.")])
def test_every_default_survives_text(name: str) -> None:
    default = getattr(TrainConfig(), name)
    assert parse_field(name, str(default)) == default


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="prog")
    add_config_flags(parser, [f.name for f in dataclasses.fields(TrainConfig) if f.name != "lr_ratio"])
    add_lr_ratio_flag(parser)
    return parser


def test_only_given_flags_become_fields() -> None:
    words = "--lite-kernel-size 5 --data-dir none --lr-ratio late=0.6 --lr-ratio early=0.4 --flip no".split()
    assert given_fields(_parser().parse_args(words)) == {
        "kernel_size": 5,
        "data_dir": None,
        "lr_ratio.late": 0.6,
        "lr_ratio.early": 0.4,
        "flip": False,
    }
    assert given_fields(_parser().parse_args([])) == {}


def test_help_gives_description_and_default() -> None:
    text = " ".join(_parser().format_help().split())
    assert "--batch-size SIZE Samples per gradient step. (default: 8)" in text
    assert "(default: 0.0003)" in text


def test_split_assignments() -> None:
    assert split_assignments("--set", ["a=1", " b = x=y ", "c="]) == [("a", "1"), ("b", "x=y"), ("c", "")]


@pytest.mark.parametrize("text", ["late", "=1", " =1"])
def test_split_assignments_wants_key_and_value(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^--lr-ratio {text}: write KEY=VALUE$"):
        split_assignments("--lr-ratio", [text])


def test_every_field_stands_in_one_section_of_the_help() -> None:
    fields = [field for names in SECTIONS.values() for field in names.split()]
    assert sorted(fields) == sorted(f.name for f in dataclasses.fields(TrainConfig) if f.name != "lr_ratio")
