"""Every flag of launch.py, tuner and tinytl. A flag is a promise: a new or a missing one is decided here."""

import argparse

import pytest

from tinytl.__main__ import build_parser as tinytl_parser
from tuner.__main__ import build_parser as tuner_parser
from tuner.config import build_parser as launch_parser

FLAGS: dict[str, str] = {
    "launch.py": (
        "--address --backbone --confirm --dashboard --dashboard-port --data-dir --dataset --download "
        "--dry-run --epochs --exclude --experiment --from-config --gpus-per-trial --input-mean --input-std "
        "--list-spaces --lite-weights --max-failures --max-slowdown --memory-budget-mib --metric "
        "--min-per-class --name --pack --race-share --resume --rungs --runs-dir --sampler --scheduler "
        "--seed --set --skip-broken --space --storage --submit --system-metrics --tensorboard "
        "--time-budget --tracking-uri --trials --verbose --warm-start --weights --workers -v"
    ),
    "tuner list": "--json --runs-dir --storage",
    "tuner status": "--json --runs-dir --storage NAME",
    "tuner compare": "--json --out --runs-dir --storage --under-mib NAME",
    "tuner prune": "--dry-run --runs-dir --storage NAME",
    "tuner report": "--live --open --out --runs-dir --storage --trial NAME",
    "tuner best": "--json --runs-dir --storage --under-mib NAME",
    "tuner finish": (
        "--epochs --register --replace --runs-dir --storage --time-budget --tracking-uri --trial --under-mib "
        "--val-too NAME"
    ),
    "tuner export": (
        "--data-dir --int8 --json --max-accuracy-drop --micro-batch-size --out --runs-dir --storage "
        "--training --trial --under-mib NAME TRIAL"
    ),
    "tuner sync": "--runs-dir --storage --tracking-uri NAME",
    "tuner ui": "--open --port --runs-dir --tracking-uri --verbose -v NAME",
    "tuner jobs": "--address --follow",
    "tuner stop": "--address --runs-dir --wait NAME",
    "tuner delete": "--runs-dir --storage --tracking-uri --yes NAME",
    "tuner repair": "--runs-dir",
    "tinytl check": (
        "--backbone --csv --data-dir --dataset --device --download --enough-per-class --exclude --html "
        "--json --labels --min-per-class --resolution --weights"
    ),
    "tinytl train": (
        "--act-func --backbone --base-lr --batch-size --bias-blocks --budget-mib --channel-ratio "
        "--checkpoint --class-weighting --config --crop-scale-min --cuda-graph --cutmix-alpha --data-dir "
        "--data-seed --dataset --device --download --downsample-ratio --dropout --engine --epochs "
        "--exclude --expand --flip --frozen-weights --gamma --gn-channel-per-group --input-mean "
        "--input-std --kernel-clipping --label-smoothing --lite-kernel-size --lite-weights "
        "--loader-workers --loading --lr-ratio --lr-schedule --memory-format --method --metric "
        "--micro-batch-size --min-per-class --mixup-alpha --moments --momentum --n-groups --norm "
        "--num-classes --optimizer --out --plan --precision --rand-augment --resolution --resume "
        "--sampling --seed --select --skip-broken --slice-mib --stock-below-kib --tensorboard "
        "--update-blocks --update-layers --update-scheme --upsample-type --warmup-epochs --weight-average "
        "--weight-decay --weight-standardization --weights"
    ),
    "tinytl evaluate": (
        "--data-dir --dataset --device --download --epoch --exclude --figures --images-at-once --json "
        "--loader-workers --loading --min-per-class --skip-broken --split RUN"
    ),
    "tinytl predict": "--device --epoch --json --top FILE RUN",
    "tinytl export": (
        "--data-dir --epoch --int8 --json --max-accuracy-drop --micro-batch-size --out --training RUN"
    ),
    "tinytl import": "--out DIR",
    "tinytl memory": (
        "--act-func --all --backbone --batch-size --bias-blocks --budget-mib --channel-ratio --checkpoint "
        "--cuda-graph --curve --device --downsample-ratio --dropout --engine --expand --figure "
        "--frozen-weights --gn-channel-per-group --json --kernel-clipping --lite-kernel-size --measure "
        "--memory-format --method --micro-batch-size --moments --momentum --n-groups --norm --num-classes "
        "--optimizer --plan --precision --resolution --select --slice-mib --stock-below-kib "
        "--update-blocks --update-layers --update-scheme --upsample-type --weight-standardization"
    ),
    "tinytl plot": (
        "--act-func --backbone --batch-size --bias-blocks --block --channel-ratio --checkpoint "
        "--cuda-graph --cutmix-alpha --diagram --downsample-ratio --dropout --engine --expand --format "
        "--frozen-weights --gn-channel-per-group --kernel-clipping --lite-kernel-size --memory-format "
        "--method --micro-batch-size --mixup-alpha --momentum --n-groups --norm --num-classes --out "
        "--precision --resolution --select --slice-mib --stock-below-kib --update-blocks --update-layers "
        "--update-scheme --upsample-type --weight-average --weight-standardization RUN"
    ),
    "tinytl list": "--backbones --json",
}
"""By program and command, positional words in capitals first."""


def flags_of(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Returns the flags of a parser and of its commands, `--help` left out."""
    found: dict[str, list[str]] = {parser.prog: []}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                found |= flags_of(command)
        elif not isinstance(action, argparse._HelpAction):
            found[parser.prog] += action.option_strings or [str(action.metavar)]
    return {program: sorted(flags) for program, flags in found.items() if flags}


@pytest.mark.parametrize(
    "build", [launch_parser, tuner_parser, tinytl_parser], ids=["launch", "tuner", "tinytl"]
)
def test_a_flag_is_neither_new_nor_gone(build) -> None:
    found = flags_of(build())
    program = build().prog
    frozen = {name: flags.split() for name, flags in FLAGS.items() if name.split()[0] == program}
    assert found == frozen
