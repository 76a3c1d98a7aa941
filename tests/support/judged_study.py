"""A study made by hand whose trials keep what they said of pictures that are there."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna

from tests.support import mlflow_studies as made
from tests.support.cases import small
from tests.support.checked_pictures import several, write_pictures
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import list_dataset
from tinytl.data.sets.digest import content_digest
from tinytl.runs.directory import RunDirectory
from tinytl.runs.judgements_file import save_judgements
from tinytl.training.judgements import Judgements
from tuner.record import schema

COUNTS = {"train/a": 6, "train/b": 6, "val/a": 4, "val/b": 4}
BEST, OTHER = made.trial_name(4), made.trial_name(0)
"""Two complete trials of the study, the better first."""
UNJUDGED = made.trial_name(7)
"""A third one, of which nothing is kept."""
WRONG = 5
"""The validation picture of which both are sure that its label is wrong: `val/b/1.png`."""


def write_judged_study(runs_dir: Path, counts: Mapping[str, int] = COUNTS) -> optuna.Study:
    """Writes pictures to `RUNS_DIR/pictures`, and a study of every kind of trial (`every_kind`) on them."""
    write_pictures(runs_dir / "pictures", several(dict(counts)))
    prepared = made.prepared_study(runs_dir)
    study = made.every_kind(prepared)
    config = config_of(runs_dir)
    data = list_dataset(config)
    study.set_user_attr(schema.IMAGES_DIGEST, content_digest(data))
    study.set_user_attr(schema.CLASSES, len(data.classes))
    RunDirectory(prepared.folder / UNJUDGED).write_config(config)
    for name in (BEST, OTHER):
        directory = RunDirectory(prepared.folder / name)
        directory.write_config(config)
        save_judgements(judgements_of_one_error(data.val.labels), directory.val_judgements)
    return study


def judge_complete_trials(study: optuna.Study, folder: Path, pictures: Path) -> None:
    """Gives the complete trials of a synthetic study judgements of the pictures in a folder, at random."""
    config = dataclasses.replace(small(dataset="imagefolder", num_classes=None), data_dir=str(pictures))
    data = list_dataset(config)
    study.set_user_attr(schema.IMAGES_DIGEST, content_digest(data))
    study.set_user_attr(schema.CLASSES, len(data.classes))
    rng, labels = np.random.default_rng(0), data.val.labels
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]):
        directory = RunDirectory(folder / trial.user_attrs[schema.NAME])
        directory.write_config(config)
        right = rng.random(len(labels)) < trial.values[0] / 2  # so that every gallery is full
        predicted = np.where(right, labels, rng.integers(0, len(data.classes), len(labels)))
        confidence = rng.uniform(0.3, 0.99, len(labels)).astype(np.float32)
        own = np.where(predicted == labels, confidence, (1 - confidence) * rng.random(len(labels)))
        losses = -np.log(np.maximum(own, 1e-6)).astype(np.float32)
        save_judgements(
            Judgements(labels=labels, predicted=predicted, confidence=confidence, losses=losses),
            directory.val_judgements,
        )


def config_of(runs_dir: Path) -> TrainConfig:
    """The configuration of its trials."""
    return dataclasses.replace(
        small(dataset="imagefolder", num_classes=None), data_dir=str(runs_dir / "pictures")
    )


def judgements_of_one_error(labels: Sequence[int]) -> Judgements:
    """All right, the later the surer, but for the picture WRONG, taken for the other of two classes."""
    own = np.asarray(labels, np.int64)
    confidence = np.linspace(0.6, 0.9, len(own), dtype=np.float32)
    predicted, losses = own.copy(), -np.log(confidence)
    predicted[WRONG], losses[WRONG] = 1 - own[WRONG], -np.log(1 - confidence[WRONG])
    return Judgements(labels=own, predicted=predicted, confidence=confidence, losses=losses)
