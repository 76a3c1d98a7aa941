"""The arms of `benchmarks.transfer.lite_branches`, and what each experiment asked, predicted and found."""

from collections.abc import Mapping
from dataclasses import dataclass

HEAD = 5e-4
"""The rate of the head in most arms: FT-Last's best on EfficientNet-Lite0 in docs/results.md."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train."""

    method: str
    base_lr: float
    lite_ratio: float = 1.0
    """Rate of the branches as a multiple of `base_lr`."""
    start: str = "zero"
    """How branches start, a name in `STARTS`."""
    parts: str = "all"
    """What of the branches trains, as `trains` reads it."""
    epochs: int | None = None
    """Default: the command's."""

    @property
    def name(self) -> str:
        """What tables and rows call it."""
        words = [f"{self.method}, {self.base_lr:g}"]
        if self.lite_ratio != 1.0:
            words.append(f"branches x {self.lite_ratio:g}")
        if self.start != "zero":
            words.append(f"start {self.start}")
        if self.parts != "all":
            words.append(f"only {self.parts}")
        if self.epochs is not None:
            words.append(f"{self.epochs} epochs")
        return ", ".join(words)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One question."""

    asked: str
    predicted_before: str
    found_after: str
    arms: tuple[Arm, ...]
    n_seeds: int = 1


def _lite(ratio: float = 16.0, **changes: str | int) -> Arm:
    return Arm(method="TinyTL-L", base_lr=HEAD, lite_ratio=ratio, **changes)  # type: ignore[arg-type]


EXPERIMENTS: Mapping[str, Experiment] = {
    "rates": Experiment(
        asked="Is the rate of the branches what holds TinyTL-L back?",
        predicted_before=(
            "No. At one rate of 0.002 TinyTL-L ends at a lower training loss (0.77) than TinyTL-B (0.89) and "
            "at a lower test accuracy (70.4 against 73.5): branches of random weights overfit, and a higher "
            "rate of theirs makes it worse. (A first look at one seed, of x 1 and x 4 and on MobileNetV2 of "
            "x 16, came before the rest was predicted: x 16 as good as x 4, x 64 worse than x 1.)"
        ),
        found_after=(
            "Yes, and the prediction was wrong. With the head at 0.0005 accuracy rises with the branches' "
            "rate alone (Lite0: 71.3, 72.7, 74.8, 76.5, 77.1 at x 0.3 to x 64; MobileNetV2: 68.3, 69.8, "
            "73.4, 73.4, 71.3). What was read as overfitting of branches comes with a head as fast as they: "
            "branches at 0.002 reach 74.8 beside a head at 0.0005 and 69.8 beside one at 0.002, whose "
            "training loss is lower (same seed, Lite0). x 64 is too much on MobileNetV2 only."
        ),
        arms=(
            *(Arm(method="FT-Last", base_lr=lr) for lr in (2.5e-4, 5e-4, 2e-3)),
            *(Arm(method="TinyTL-L", base_lr=lr) for lr in (5e-4, 2e-3)),
            *(_lite(ratio) for ratio in (0.3, 4, 16, 64)),
        ),
    ),
    "confirmed": Experiment(
        asked="Does TinyTL-L with branches at 16 times the head's rate gain over FT-Last with every seed?",
        predicted_before=(
            "By 5 points on EfficientNet-Lite0 (7.3 with the first seed, which was looked at) and by 3 on "
            "MobileNetV2 (3.6), with standard errors below 1."
        ),
        found_after=(
            "Yes: 76.0 against 69.7 on Lite0 and 74.1 against 70.2 on MobileNetV2, FT-Last at the better of "
            "its rates; 6.2 and 3.8 points, seed by seed with standard errors of 0.8 and 1.5 (that on "
            "MobileNetV2 above the 1 predicted: its three seeds are 73.4, 72.1 and 76.7)."
        ),
        arms=(
            _lite(),
            *(Arm(method="FT-Last", base_lr=lr) for lr in (5e-4, 2e-3)),
        ),
        n_seeds=3,
    ),
    "with biases": Experiment(
        asked="Does TinyTL-L+B, which did well at one rate of 0.002 (74.8, 72.0), gain too, and never lose?",
        predicted_before=(
            "At 16 times the head's rate it gains 1 to 2 points over its one rate, and ends a point above "
            "TinyTL-L at x 16."
        ),
        found_after=(
            "Yes: 76.4 against 74.8 and 73.9 against 72.0, means of three seeds with standard errors of 0.5 "
            "to 0.9. But it ends level with TinyTL-L at x 16 (76.0, 74.1), not a point above: with branches "
            "that learn, biases add little."
        ),
        arms=(
            Arm(method="TinyTL-L+B", base_lr=HEAD, lite_ratio=16),
            Arm(method="TinyTL-L+B", base_lr=2e-3),
        ),
        n_seeds=3,
    ),
    "fast head": Experiment(
        asked="Does a ratio of 16 harm somebody whose head has 0.002, so that the branches have 0.032?",
        predicted_before=(
            "No: it is between one rate of 0.002 (69.8 with the first seed) and 0.0005 with x 64 (77.1), "
            "about 73 on EfficientNet-Lite0."
        ),
        found_after=(
            "No: 76.9 on Lite0 and 72.7 on MobileNetV2 (FT-Last at 0.002 has 69.2 and 68.3 with that seed). "
            "A head at 0.002 does no harm beside branches that are faster still: what counts is the ratio."
        ),
        arms=(Arm(method="TinyTL-L", base_lr=2e-3, lite_ratio=16),),
    ),
    "parts": Experiment(
        asked="Do the convolutions of the branches learn, or is it their norms, over random convolutions?",
        predicted_before="The norms alone, over random convolutions that stay, have half of the gain.",
        found_after=(
            "The norms have most of it: 75.1 with the first seed, where all of the branches have 76.5 and "
            "FT-Last 69.2. Random convolutions are good features for norms to choose from."
        ),
        arms=(_lite(parts="norms"),),
    ),
    "starts": Experiment(
        asked="Does a warm start help: branches fitted to their block's output before training?",
        predicted_before=(
            "A fitted branch, whose features are aligned with the block's, gains one point more."
        ),
        found_after=(
            "No: 76.5 with the same seed, as from random weights, and a training loss of 0.75 in both. The "
            "fit explains 27 to 62 % of each block's pooled output. The prediction missed as the features at "
            "the start were not what was missing."
        ),
        arms=(_lite(start="fitted"),),
    ),
}
