"""A study that was never trained, as a search leaves it: journal, study.json, one run folder per trial."""

import json
import math
import random
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState, create_trial

from search_spaces.space import load_space
from tinytl.config.flat import config_from_flat
from tinytl.config.train_config import TrainConfig
from tinytl.runs.directory import RunDirectory
from tinytl.runs.judgements_file import save_judgements
from tinytl.training.judgements import Judgements
from tuner.config import STUDY_FILE, StudyConfig
from tuner.record import schema
from tuner.record.class_counts import ClassCounts, write_class_counts
from tuner.record.storage import open_storage
from tuner.record.trials import BASELINE

BUDGET_MIB = 120.0
CLASSES, IMAGES = 200, 1000
"""Of a study that was judged; `IMAGES` to validate."""
METHOD_MIB = {"FT-Last": 0.6, "TinyTL-B": 0.7, "TinyTL-L": 0.8, "TinyTL-L+B": 0.9, "FT-Norm+Last": 1.7}
"""Memory relative to the others; FT-Full needs 2.5."""


def write_study(runs_dir: Path, name: str, trials: int, epochs: int, *, judged: bool = False) -> optuna.Study:
    """Writes a study of the space joint: some fail, some are stopped at rungs, the rest is complete.

    `judged`: with what newer versions record, too: classes, what each network says of the validation images,
    and that the first two trials are baselines.
    """
    draw, space = random.Random(0), load_space("joint")
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(
        study_name=name, storage=open_storage(None, str(runs_dir)), directions=["maximize", "minimize"]
    )
    study.set_user_attr(schema.REQUESTED, trials)
    identity = {"space": "joint", "dataset": "synthetic", "classes": 10, "images": 1000, "epochs": epochs}
    identity |= {"backbone": "efficientnet_lite0", "weights": "imagenet", "objectives": "accuracy and memory"}
    identity["parameters"] = {p.name: p.describe() for p in space.parameters}
    asked = optuna.create_study(sampler=sampler)
    for key, value in identity.items():
        study.set_user_attr(key, value)
    folder = runs_dir / name
    folder.mkdir(parents=True)
    settings = vars(StudyConfig(trials=trials, epochs=epochs, name=name, memory_budget_mib=BUDGET_MIB))
    command = ["launch.py", "--space", "joint", "--trials", str(trials)]
    (folder / STUDY_FILE).write_text(json.dumps(settings | {"command": command}))
    if judged:
        images = {
            split: [n] * CLASSES for split, n in (("train", 5), ("val", IMAGES // CLASSES), ("test", 3))
        }
        names = [f"class {index}" for index in range(CLASSES)]
        write_class_counts(folder, ClassCounts(names=names, images=images))
    rungs = [rung for rung in (epochs // 9, epochs // 3) if rung]
    for index in range(trials):
        values = space.sample_trial(sampled := asked.ask())
        trial = f"joint-{index:03d}"
        size = values["resolution"] / 96
        memory_mib = 12 + 30 * METHOD_MIB.get(values["method"], 2.5) * size**2 * math.sqrt(
            values["batch_size"] / 8
        )
        height = 0.5 + 0.3 * size - 0.08 * abs(math.log10(values["base_lr"]) + 3) + draw.gauss(0, 0.04)
        height = min(0.98, height + 0.05 * math.log(memory_mib / 12))
        rows = [_row(draw, epoch, epochs, height, memory_mib) for epoch in range(1, epochs + 1)]
        stopped = next((rung for rung in rungs if draw.random() < 0.05), None)
        failed = stopped is None and draw.random() < 0.05
        rows = rows[: stopped or (epochs // 2 if failed else epochs)]
        run = RunDirectory(folder / trial)
        run.path.mkdir()
        run.write_config(config_from_flat(values, TrainConfig(num_classes=10)))
        run.write_metrics(rows)
        passed = {str(rung): rows[rung - 1]["accuracy_top1"] for rung in rungs if rung <= len(rows)}
        attributes = {"name": trial, "peak_memory_mib": memory_mib, schema.RUNGS: passed}
        if judged and index < 2:
            attributes[schema.SOURCE] = f"{BASELINE} {('user_report', 'tinytl_paper')[index]}"
        state, end = TrialState.COMPLETE, None
        if stopped is not None:
            state, attributes[schema.PRUNED_AT] = TrialState.PRUNED, stopped
        elif failed:
            state, attributes["failure"] = TrialState.FAIL, "the loss is nan"
        else:
            attributes["epoch_time_s"] = rows[-1]["epoch_time_s"]
            end = [rows[-1]["accuracy_top1"], memory_mib]
            if judged:
                found = _judgements(index, end[0])
                save_judgements(found, run.val_judgements)
                attributes[schema.STANDARD_ERROR] = found.standard_error("accuracy_top1")
        _add(study, state, end, sampled, attributes)
    return study


def _judgements(seed: int, accuracy: float) -> Judgements:
    """Returns what a network of about that accuracy says: all find the same images easy."""
    labels = np.arange(IMAGES) % CLASSES
    hard = np.random.default_rng(0).random(IMAGES) + 0.2 * np.random.default_rng(seed).random(IMAGES)
    right = hard <= np.quantile(hard, min(1.0, max(0.0, accuracy)))
    return Judgements(
        labels=labels,
        predicted=np.where(right, labels, (labels + 1) % CLASSES),
        confidence=np.full(IMAGES, 0.8, np.float32),
        losses=np.where(right, 0.2, 1.6).astype(np.float32),
    )


def _row(draw: random.Random, epoch: int, epochs: int, height: float, memory_mib: float) -> dict[str, float]:
    accuracy = height * (1 - 0.6 * math.exp(-4 * epoch / epochs)) + draw.gauss(0, 0.004)
    return {
        "epoch": epoch,
        "loss": 2.3 * (1 - accuracy) + 0.1,
        "train_accuracy_top1": accuracy - 0.03,
        "accuracy_top1": accuracy,
        "val_loss": 2.3 * (1 - accuracy),
        "epoch_time_s": memory_mib / 5 * draw.uniform(0.8, 1.2),
        "images_per_s": 80.0,
        "measured_peak_mib": memory_mib * draw.uniform(0.98, 1.03),
        "process_peak_mib": 700.0 + memory_mib,
        "lr.classifier": 1e-3,
        "peak_memory_mib": memory_mib,
        "timestamp_ms": 1_700_000_000_000 + 1000 * epoch,
    }


def _add(
    study: optuna.Study,
    state: TrialState,
    values: list[float] | None,
    sampled: optuna.Trial,
    attributes: dict[str, object],
) -> None:
    distributions: dict[str, BaseDistribution] = sampled.distributions
    added = create_trial(
        state=state, values=values, params=sampled.params, distributions=distributions, user_attrs=attributes
    )
    # As a search would have: Optuna stamps an added trial with the present time.
    added.datetime_start = datetime(2026, 1, 1) + timedelta(minutes=len(study.get_trials(deepcopy=False)))
    added.datetime_complete = added.datetime_start + timedelta(minutes=3)
    study.add_trial(added)
