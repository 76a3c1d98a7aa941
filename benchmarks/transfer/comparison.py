"""Every method under every norm, each at a learning rate of its own: accuracy against the least memory.

Sparse trains as much as fits a budget: the memory of TinyTL-L+B, and half and twice of what that needs more
than FT-Last. Some methods train again with less memory for what is stored.

    python -m benchmarks.transfer.comparison --dataset imagefolder --data-dir FOLDER \
        --json benchmarks/results/transfer_comparison_MACHINE_YYYYMM.json
"""

import dataclasses
import os
from collections.abc import Mapping

from benchmarks.transfer import tuned_runs
from tinytl.config.names import METHODS, NORMS
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import predict_memory

SPARSE_BUDGETS = {"half of TinyTL-L+B": 0.5, "as TinyTL-L+B": 1.0, "twice TinyTL-L+B": 2.0}
"""Budgets of Sparse: what FT-Last needs, and this many times what TinyTL-L+B needs more."""
SPARSE = "Sparse, frozen_bn, as TinyTL-L+B, fisher"
STORED: Mapping[tuple[str, ...], Mapping[str, Mapping[str, str]]] = {
    ("TinyTL-B, frozen_bn", "TinyTL-L+B, frozen_bn", SPARSE): {
        "int8 frozen weights": {"frozen_weights": "int8"},
        "bfloat16 frozen weights": {"frozen_weights": "bfloat16"},
    },
    ("FT-Full, frozen_bn", "TinyTL-L+B, frozen_bn", SPARSE): {"int8 moments": {"moments": "int8"}},
}
"""What is trained again with less memory for what is stored, and how it is stored then."""
PREDICTED = {
    "emoji: Sparse at the memory of TinyTL-L+B, top-1 against it": 0.015,
    "FT-Norm+Last is the weakest under frozen_bn": False,
}
"""Written before the first run."""


def variants_of(base: TrainConfig) -> dict[str, TrainConfig]:
    """Returns what is compared, by name. Sparse has a budget, which says how much of it trains."""
    found = {
        f"{method}, {norm}": dataclasses.replace(base, method=method, norm=norm)
        for method in METHODS
        if method not in ("Scratch", "Sparse")
        for norm in NORMS
    }
    for words in SPARSE_BUDGETS:
        for select in ("last", "fisher"):
            found[f"Sparse, frozen_bn, {words}, {select}"] = _sparse(base, "frozen_bn", words, select)
    for norm, select in (("frozen_bn", "contribution"), ("group_norm", "fisher")):
        found[f"Sparse, {norm}, as TinyTL-L+B, {select}"] = _sparse(base, norm, "as TinyTL-L+B", select)
    return found | {
        f"{name}, {words}": dataclasses.replace(found[name], **fields)  # type: ignore[arg-type]
        for names, stored in STORED.items()
        for words, fields in stored.items()
        for name in names
    }


def _sparse(base: TrainConfig, norm: str, words: str, select: str) -> TrainConfig:
    last, lite = (
        predict_memory(dataclasses.replace(base, method=method, norm=norm, plan="smallest")).peak_mib
        for method in ("FT-Last", "TinyTL-L+B")
    )
    budget_mib = last + SPARSE_BUDGETS[words] * (lite - last)
    fields = {"select": select, "plan": "budget", "budget_mib": budget_mib}
    return dataclasses.replace(base, method="Sparse", norm=norm, **fields)


if __name__ == "__main__":
    os.nice(5)  # a benchmark of accuracies: what is timed goes first
    tuned_runs.compare(str(__doc__), PREDICTED, variants_of)
