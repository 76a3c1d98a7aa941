import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.cases import small, tinted_images
from tinytl.data.splits import DataSplits
from tinytl.training.judgements import Judgements
from tuner.finish.outcome import Outcome
from tuner.finish.training import FinishedRun

LABELS = np.array([0, 1, 2, 0])


def outcome(**fields):
    result = {
        "val_accuracy_top1": 0.5,
        "balanced_accuracy": 0.4,
        "macro_f1": 0.3,
        "predicted_peak_mib": 20.0,
        "measured_peak_mib": None,
    }
    run = FinishedRun(folder=Path("finish/s-000-2"), config=small(epochs=2), result=result)
    best = SimpleNamespace(
        study=SimpleNamespace(name="s", attributes={"study_id": "0a1b"}),
        trial=SimpleNamespace(name="s-000", metric="macro_f1"),
        config=small(micro_batch_size=2, batch_size=4),
    )
    images = tinted_images(3, 0)
    data = DataSplits("d", ("a", "b", "c"), images, images, None, 0.5, True, digest="0123")
    known = {
        "best": best,
        "named": False,
        "data": data,
        "tried": {1: 0.2, 2: 0.3},
        "on_train": run,
        "run": run,
    }
    known |= {"val_too": False, "test": None, "process_mib": 900.0, "command": "python -m tuner finish s"}
    return Outcome(**(known | fields))


def test_the_facts_of_a_model_are_json_with_what_is_not_known_as_null():
    found = json.loads(json.dumps(outcome().to_json()))
    assert (found["val_accuracy_top1"], found["val_macro_f1"]) == (0.5, 0.3)
    assert found["epochs_tried"] == {"1": 0.2, "2": 0.3} and found["measured_peak_memory_mib"] is None
    assert (found["study"], found["study_id"]) == ("s", "0a1b")
    assert found["plan"]["micro_batch_size"] == 2
    assert found["test_accuracy_top1"] is None and "test_accuracy_top1_standard_error" not in found
    assert found["images"] == {"name": "d", "digest": "0123", "train": 3, "val": 3, "test": None}


def test_test_figures_have_their_standard_errors():
    confidence = np.full(4, 0.5, np.float32)
    test = Judgements(
        labels=LABELS, predicted=np.array([0, 1, 2, 1]), confidence=confidence, losses=confidence
    )
    found = outcome(test=test, on_train=None, val_too=True).to_json()
    assert found["test_accuracy_top1"] == 0.75 and found["val_accuracy_top1"] is None
    assert found["test_accuracy_top1_standard_error"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
