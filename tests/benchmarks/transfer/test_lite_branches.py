import argparse
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from benchmarks.transfer import lite_branches
from benchmarks.transfer.branch_starts import fit_branches_, lite_modules
from benchmarks.transfer.lite_branches import STARTS, Study, config_of, means, train, trains, watch
from benchmarks.transfer.lite_experiments import EXPERIMENTS, Arm
from tests.support.cases import small, tinted_images
from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS
from tinytl.runs.trainer import Trainer

BASE = small(norm="group_norm", epochs=1)
NORMS = {"bn1.weight", "bn1.bias", "final_bn.weight", "final_bn.bias"}
ARM = Arm(method="TinyTL-L", base_lr=1e-3, lite_ratio=16)


@pytest.fixture(scope="module")
def data() -> DataSplits:
    parts = [tinted_images(12, seed) for seed in range(3)]
    return DataSplits("tinted", ("a", "b", "c"), *parts, crop_scale_min=0.7, flip=False)


def trainer_of(data: DataSplits) -> Trainer:
    return Trainer(config_of(BASE, ARM, 0), data, RANDOM_WEIGHTS)


def test_arms_have_names_of_their_own_and_known_starts_and_parts():
    arms = {arm for experiment in EXPERIMENTS.values() for arm in experiment.arms}
    assert len({arm.name for arm in arms}) == len(arms)
    assert all(arm.start in STARTS for arm in arms)
    for arm in arms:
        assert trains("classifier.1.weight", arm.parts)
        assert config_of(TrainConfig(), arm, 0).filled_lr_ratio.lite_residual in (arm.lite_ratio, 16.0)


@pytest.mark.parametrize(
    ("parts", "trained"), [("all", NORMS | {"conv1.weight", "conv2.weight"}), ("norms", NORMS)]
)
def test_parts_of_a_branch(parts: str, trained: set[str]):
    net = build_model(small(method="TinyTL-L")).net
    branch = [name for name, _ in net.named_parameters() if name.startswith("features.3.lite_residual.")]
    assert {name.split("lite_residual.")[1] for name in branch if trains(name, parts)} == trained


def test_a_fit_lowers_the_error_and_changes_no_output(data: DataSplits, monkeypatch: pytest.MonkeyPatch):
    images = torch.from_numpy(data.val.images[:4]).permute(0, 3, 1, 2)
    errors = []
    for steps in (1, 30):
        monkeypatch.setattr("benchmarks.transfer.branch_starts.FIT_STEPS", steps)
        trainer = trainer_of(data)
        before = trainer.net.eval()(trainer.normalize(images))
        fitted = fit_branches_(trainer)
        assert torch.equal(trainer.net.eval()(trainer.normalize(images)), before)
        assert list(fitted) == [name for name, _ in lite_modules(trainer.net)]
        errors.append(sum(fitted.values()))
    assert errors[1] < 0.9 * errors[0]


def test_what_is_watched(data: DataSplits):
    trainer = trainer_of(data)
    at_zero = watch(trainer)
    assert set(at_zero["branch_share"]) == {0.0} and at_zero["mean_abs_gamma"] == 0.0
    assert at_zero["gradient_norm"]["conv1.weight"] == 0.0 < at_zero["gradient_norm"]["final_bn.weight"]
    for _, module in lite_modules(trainer.net):
        torch.nn.init.constant_(module.lite_residual.get_parameter("final_bn.weight"), 0.5)
    above = watch(trainer)
    assert min(above["branch_share"]) > 0.0 and above["mean_abs_gamma"] == 0.5
    assert above["gradient_norm"]["conv1.weight"] > 0.0
    assert all(parameter.grad is None for parameter in trainer.net.parameters())


def test_what_does_not_train_stays(data: DataSplits):
    arm = dataclasses.replace(ARM, parts="norms")
    row = train(config_of(BASE, arm, 0), arm, data, RANDOM_WEIGHTS)
    assert row["seen"][-1]["gradient_norm"]["conv1.weight"] == 0.0 < row["seen"][-1]["mean_abs_gamma"]
    assert len(row["loss_curve"]) == 1 and 0.0 <= row["test_top1"] <= 1.0


def test_a_study_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trained: list[int] = []

    def fake(config: TrainConfig, *_: object) -> dict[str, float]:
        trained.append(config.seed)
        return {"test_top1": 0.5 + config.seed / 10, "train_loss": 1.0}

    monkeypatch.setattr(lite_branches, "train", fake)
    monkeypatch.setattr(lite_branches, "_inputs", lambda base: (None, None))
    monkeypatch.setattr(lite_branches, "write_result", lambda path, rows: path.write_text(json.dumps(rows)))
    names = {"dataset": "digits", "epochs": 1, "resolution": 32, "batch_size": 4, "seeds": [0, 1]}
    args = argparse.Namespace(json=tmp_path / "rows.json", **names)
    for seeds in ([0], [0, 1], [1]):
        study = Study(args)
        for seed in seeds:
            study.row(BASE, ARM, seed)
    assert trained == [0, 1]
    (mean,) = json.loads(args.json.read_text())["means"]
    assert (mean["n_seeds"], mean["test_top1_mean"]) == (2, pytest.approx(0.55))
    assert mean["test_top1_se"] == pytest.approx(0.05)


def test_one_seed_has_no_error():
    assert means([{"backbone": "b", "arm": "a", "test_top1": 0.5, "train_loss": 1.0}]) == []
