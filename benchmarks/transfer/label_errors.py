"""How many labels that were flipped on purpose stand at the top of the list of `tinytl check --labels`?

Of a folder of images, training and validation ones together, a share of the labels is replaced by another
class, drawn at random. The list is made as the command makes it: features of the frozen backbone, heads by
cross-validation, confident learning. `found` is the share of the flipped labels among the first entries of
the list, as many entries as `share` of all pictures. A list in random order would find `share` of them.

Predicted before the first run, from trials of the parts at 64 to 128 px on the emoji images with other
draws: 0.58 of the flipped labels, for each seed, among the first 5 %. The classes there (objects, symbols,
activities) are vague: a quarter of all pictures look like another class to the best head. That run found
0.547, 0.505 and 0.537: only pictures that reach the threshold of another class were listed. On eight other
draws (seeds 10 to 17) the same ratio without that condition found 0.60 in place of 0.555, with the
thresholds deciding how many are listed. So it was changed, and run again on the same three seeds.

    python -m benchmarks.transfer.label_errors --data-dir FOLDER \
        --json benchmarks/results/transfer_label_errors_MACHINE_YYYYMM.json
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.shared.machine import write_result
from tinytl.config.train_config import TrainConfig
from tinytl.data.named_pictures import named_parts
from tinytl.data_checks.checked_set import CheckedSet
from tinytl.data_checks.label_errors import label_suspects
from tinytl.data_checks.out_of_fold import out_of_fold_probabilities
from tinytl.data_checks.suspect_labels import LEAST_RESOLUTION, frozen_features

PREDICTED = 0.58
LIMIT = 0.5
FIRST_VERSION = [0.547, 0.505, 0.537]
"""What the run before the change above found."""
SHARE = 0.05


def flipped(labels: Tensor, n_classes: int, share: float, seed: int) -> tuple[Tensor, np.ndarray[Any, Any]]:
    """Returns labels of which a share is another class, and the rows that are, sorted."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(labels), round(share * len(labels)), replace=False))
    changed = labels.clone()
    shift = torch.from_numpy(rng.integers(1, n_classes, len(rows)))
    changed[rows] = (changed[rows] + shift) % n_classes
    return changed, rows


def row_of(features: Tensor, labels: Tensor, n_classes: int, seed: int) -> dict[str, Any]:
    """Returns what one draw of flipped labels gives."""
    wrong, rows = flipped(labels, n_classes, SHARE, seed)
    start = time.process_time()
    probabilities = out_of_fold_probabilities(features, wrong, n_classes)
    suspects = label_suspects(probabilities, wrong.numpy())
    seconds = time.process_time() - start
    first = [suspect.row for suspect in suspects[: len(rows)]]
    named = {suspect.row: suspect.likely for suspect in suspects}
    found = np.intersect1d(first, rows)
    return {
        "seed": seed,
        "flipped": len(rows),
        "suspects": len(suspects),
        "found": round(len(found) / len(rows), 3),
        "found_anywhere_in_the_list": round(len(np.intersect1d(list(named), rows)) / len(rows), 3),
        "of_found_true_class_named": round(sum(named[r] == labels[r].item() for r in found) / len(found), 3),
        "accuracy_on_true_labels": round(float((probabilities.argmax(1) == labels.numpy()).mean()), 3),
        "heads_cpu_s": round(seconds, 1),
    }


def main() -> None:
    """Prints a line per seed and, asked to, writes them as JSON."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--backbone", default=TrainConfig.backbone)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainConfig(dataset="imagefolder", data_dir=args.data_dir, backbone=args.backbone, device="cpu")
    data, named = named_parts(config)
    pictures = CheckedSet(data.classes, named)
    start = time.process_time()
    features, labels = frozen_features(pictures, np.arange(len(pictures)), config)
    features_s = round(time.process_time() - start, 1)
    rows = [row_of(features, labels, len(pictures.classes), seed) for seed in range(args.seeds)]
    for row in rows:
        print(row)
    least = min(row["found"] for row in rows)
    print(f"least found among the first {SHARE:.0%}: {least}; predicted {PREDICTED}, at least {LIMIT}")
    if args.json:
        figures = {
            "pictures": len(pictures),
            "classes": len(pictures.classes),
            "backbone": args.backbone,
            "resolution": max(LEAST_RESOLUTION, config.resolution),
            "share_flipped": SHARE,
            "predicted_before": PREDICTED,
            "found_by_the_first_version": FIRST_VERSION,
            "limit": LIMIT,
            "least_found": least,
            "features_cpu_s_of_this_process": features_s,
            "rows": rows,
        }
        write_result(args.json, figures)


if __name__ == "__main__":
    main()
