"""Backbones worth a look for devices, with what they cost: `tinytl list --backbones TEXT`."""

from typing import NamedTuple


class Cost(NamedTuple):
    """What a network costs at 224 px."""

    parameters_million: float
    """With 1,000 classes."""
    macs_million: int
    """Multiplications and additions of an inference."""
    fast_mib: int
    """Predicted peak of a training step of TinyTL-B under frozen batch norm, batches of 8, plan fast."""
    smallest_mib: int
    """The same, plan smallest."""


CURATED = {
    "efficientnet_lite0": Cost(4.65, 385, 32, 26),
    "mobilenet_v2": Cost(3.50, 301, 24, 17),
    "proxylessnas_mobile": Cost(4.08, 320, 24, 16),
    "timm/mobilenetv2_050": Cost(1.97, 97, 14, 8),
    "timm/mobilenetv2_140": Cost(6.11, 582, 35, 29),
    "timm/mobilenetv3_small_050": Cost(1.59, 24, 27, 6),
    "timm/mobilenetv3_small_100": Cost(2.54, 57, 44, 10),
    "timm/mobilenetv3_large_100": Cost(5.48, 217, 90, 24),
    "timm/mobilenetv4_conv_small": Cost(3.77, 186, 22, 15),
    "timm/mobilenetv4_conv_medium": Cost(9.72, 828, 47, 40),
    "timm/efficientnet_lite0": Cost(4.65, 385, 29, 21),
    "timm/efficientnet_b0": Cost(5.29, 386, 279, 35),
    "timm/mnasnet_100": Cost(4.38, 314, 26, 18),
    "timm/ghostnet_100": Cost(5.18, 141, 43, 22),
    "timm/regnety_002": Cost(3.16, 200, 37, 18),
    "timm/convnext_atto": Cost(3.70, 547, 125, 23),
    "timm/tinynet_e": Cost(2.04, 88, 116, 14),
    "torchvision/mobilenet_v3_small": Cost(2.54, 57, 44, 10),
    "torchvision/mobilenet_v3_large": Cost(5.48, 217, 90, 24),
    "torchvision/efficientnet_b0": Cost(5.29, 386, 282, 35),
    "torchvision/mnasnet0_5": Cost(2.22, 104, 18, 7),
    "torchvision/shufflenet_v2_x1_0": Cost(2.28, 145, 22, 9),
    "torchvision/regnet_y_400mf": Cost(4.34, 402, 51, 23),
    "torchvision/resnet18": Cost(11.69, 1814, 64, 54),
    "torchvision/convnext_tiny": Cost(28.59, 4456, 473, 130),
}
"""Building them would need torch and a minute; a test compares the figures. MiB are of a CPU."""
MOBILE_MACS_MILLION = 1000
"""Below that, a network is one for mobile devices."""


def chosen(text: str) -> dict[str, Cost]:
    """Returns the networks whose names have `text` in them; for `mobile`, also all that are small enough."""
    text = text.lower()
    return {
        name: cost
        for name, cost in CURATED.items()
        if text in name or (text == "mobile" and cost.macs_million < MOBILE_MACS_MILLION)
    }


def cost_lines(text: str) -> list[str]:
    """Returns lines that name the networks of `chosen`, and how many others have `text` in their names."""
    found = chosen(text)
    lines = [f"{'backbone':<32} {'parameters':>11} {'MACs':>7}   TinyTL-B step, plan fast / smallest"]
    for name, cost in found.items():
        lines.append(
            f"{name:<32} {cost.parameters_million:>9.2f} M {cost.macs_million:>5} M"
            f"   {cost.fast_mib:>4} / {cost.smallest_mib} MiB"
        )
    if not found:
        lines = [f"none of the {len(CURATED)} curated networks has {text} in its name"]
    return [*lines, *_others(text, set(found))]


def _others(text: str, shown: set[str]) -> list[str]:
    """Returns lines with how many more names the packages have, if these are installed."""
    lines = []
    for family in ("torchvision", "timm"):
        names = [name for name in _names_of(family) if text.lower() in name and name not in shown]
        if names:
            few = ", ".join(names[:5])
            lines.append(f"{len(names)} more of {family}: {few}{', ...' if len(names) > 5 else ''}")
    return lines


def _names_of(family: str) -> list[str]:
    try:
        if family == "timm":
            import timm

            names = timm.list_models()
        else:
            import torchvision.models as models

            names = models.list_models(module=models)
    except ImportError:
        return []
    return [f"{family}/{name}" for name in names]
