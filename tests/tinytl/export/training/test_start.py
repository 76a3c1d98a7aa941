from pathlib import Path

import pytest
import torch

from tests.support.cases import small
from tests.support.exports import save_run
from tinytl.build import build_model
from tinytl.errors import ConfigError
from tinytl.export.folder import export_run
from tinytl.export.training.start import augmentation, start_of, training_state
from tinytl.training.step import build_optimizer


def test_a_run_whose_data_is_elsewhere(tmp_path: Path) -> None:
    config = small(
        dataset="imagefolder", data_dir="/nowhere", norm="frozen_bn", method="TinyTL-B", flip=False
    )
    run = save_run(tmp_path / "run", config)
    start = start_of(run, "best")
    assert (start.classes, start.epoch, start.data) == (("red", "green", "blue"), 1, None)
    assert start.config.input_mean == (0.5, 0.4, 0.3)
    assert augmentation(start) == {"crop_scale_min": 0.7, "flip": False}
    assert start_of(run, None).source == start.source
    with pytest.raises(ConfigError, match=r"has no last.pt: export --training needs a run"):
        start_of(run, "last")


def test_a_finished_model_is_a_start_without_moments(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", small(norm="frozen_bn", method="TinyTL-B"))
    export_run(run, tmp_path / "model")
    start, of_run = start_of(tmp_path / "model", None), start_of(run, None)
    assert (start.classes, start.epoch, start.optimizer) == (of_run.classes, of_run.epoch, None)
    assert start.config.input_mean == of_run.config.input_mean
    assert [name for name, one in start.state.items() if not torch.equal(one, of_run.state[name])] == []


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "int8"])
def test_moments_come_with_what_trains(optimizer: str, tmp_path: Path) -> None:
    fields = {"optimizer": "adam", "moments": "int8"} if optimizer == "int8" else {"optimizer": optimizer}
    config = small(norm="frozen_bn", method="FT-Last", num_classes=50, **fields)
    net = build_model(config).net
    made = build_optimizer(net, config)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    made.step()
    run = save_run(tmp_path / "run", config, optimizer=made.state_dict(), epoch=3)
    start = start_of(run / "best.pt", None)
    state = training_state(net, start)
    names = {"classifier.1.weight", "classifier.1.bias"}
    moments = ("first:",) if optimizer == "sgd" else ("first:", "second:")
    assert state.keys() == names | {"epoch", "step"} | {f"{m}{name}" for m in moments for name in names}
    assert (
        int(state["epoch"]) == 0
        and start.epoch == 3
        and int(state["step"]) == (1 if optimizer == "adam" else 0)
    )
    for moment in moments:
        assert (float(state[f"{moment}classifier.1.bias"].abs().min()) > 0) == (optimizer != "int8")
