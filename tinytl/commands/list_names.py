"""python -m tinytl list: every backbone, method and data set by name, and the names of each flag."""

import argparse
import json

from tinytl.commands.curated_backbones import chosen, cost_lines
from tinytl.config.flags import Commands
from tinytl.config.method_aliases import METHOD_ALIASES
from tinytl.config.names import (
    ACT_FUNCS,
    CHECKPOINTS,
    ENGINES,
    FROZEN_WEIGHTS,
    KERNEL_CLIPPINGS,
    LR_SCHEDULES,
    METHOD_GROUPS,
    MOMENTS,
    NORMS,
    OPTIMIZERS,
    PLANS,
    PRECISIONS,
    UPSAMPLE_TYPES,
)

NAMES = {
    "norm": NORMS,
    "optimizer": OPTIMIZERS,
    "moments": MOMENTS,
    "lr_schedule": LR_SCHEDULES,
    "precision": PRECISIONS,
    "frozen_weights": FROZEN_WEIGHTS,
    "plan": PLANS,
    "checkpoint": CHECKPOINTS,
    "engine": ENGINES,
    "act_func": ACT_FUNCS,
    "upsample_type": UPSAMPLE_TYPES,
    "kernel_clipping": KERNEL_CLIPPINGS,
}
"""Fields whose values are names that explain themselves."""

BACKBONE_FACTS = {
    # parameters with 1,000 classes, feature blocks, names of ImageNet weights
    "efficientnet_lite0": (4_652_008, 18, ("imagenet",)),
    "mobilenet_v2": (3_504_872, 19, ("imagenet", "imagenet_v1", "imagenet_v2")),
    "proxylessnas_mobile": (4_080_512, 22, ()),
}
"""Figures of each network. Building it would need torch and seconds; a test compares them."""

WHAT_TRAINS = {
    "FT-Last": "the head",
    "FT-Norm+Last": "norms and head",
    "FT-Full": "everything",
    "TinyTL-B": "biases and head",
    "TinyTL-L": "lite residuals and head",
    "TinyTL-L+B": "lite residuals, biases and head",
    "Last-3": "the last 3 feature blocks and head",
    "Last-5": "the last 5 feature blocks and head",
    "Sparse": "weights of some convolutions, biases and head",
    "Scratch": "everything, from random weights",
}
"""Each method in a few words."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tinytl`."""
    listing = commands.add_parser(
        "list",
        usage="tinytl list [--json] [--backbones [TEXT]]",
        help="backbones, methods, data sets and other names",
        description="Backbones, methods, data sets, and the names that flags accept.",
    )
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.add_argument(
        "--backbones",
        nargs="?",
        const="",
        metavar="TEXT",
        help="networks with TEXT in their names (mobile: all small ones): parameters, MACs, MiB of a step",
    )
    listing.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints every name."""
    if args.backbones is not None:
        if args.json:
            found = {name: cost._asdict() for name, cost in chosen(args.backbones).items()}
            print(json.dumps(found, indent=2))
        else:
            print("\n".join(cost_lines(args.backbones)))
        return 0
    tables = {"backbone": _backbones(), "method": _methods(), "dataset": _datasets()}
    if args.json:
        print(json.dumps({**tables, **NAMES}, indent=2))
        return 0
    for title, table in tables.items():
        print(f"--{title}")
        for name, text in table.items():
            print(f"  {name:<20} {text}")
        print()
    width = max(map(len, NAMES))
    print("Other backbones: torchvision/NAME and timm/NAME; `tinytl list --backbones mobile` names some\n")
    for field, names in NAMES.items():
        print(f"--{field.replace('_', '-'):<{width}}  {', '.join(names)}")
    return 0


def _backbones() -> dict[str, str]:
    return {
        name: f"{parameters:,} parameters (1,000 classes), {blocks} feature blocks; "
        f"weights: {', '.join([*imagenet, 'none, a file or a URL'])}"
        for name, (parameters, blocks, imagenet) in BACKBONE_FACTS.items()
    }


def _methods() -> dict[str, str]:
    aliases: dict[str, list[str]] = {}
    for alias, fields in METHOD_ALIASES.items():
        aliases.setdefault(fields["method"], []).append(alias)
    return {
        method: f"trains {WHAT_TRAINS[method]} (groups {', '.join(groups)}){_also(aliases.get(method, []))}"
        for method, groups in METHOD_GROUPS.items()
    }


def _also(aliases: list[str]) -> str:
    return f"; also called {', '.join(aliases)}" if aliases else ""


def _datasets() -> dict[str, str]:
    from tinytl.data.sets import NAMED_SETS

    found = {
        "digits": "10 classes, bundled: 1,797 handwritten digits of 8x8 pixels",
        "imagefolder": "your own: --data-dir with train/CLASS/*, val/, test/, or CLASS/*",
    }
    for name, named in NAMED_SETS.items():
        how = "--download fetches it" if named.downloads else "cannot be fetched"
        found[name] = f"{named.n_classes} classes, {named.title}; {how}"
    return found
