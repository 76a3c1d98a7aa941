from collections.abc import Callable
from pathlib import Path

from tests.support.cases import small
from tests.tinytl.training.test_judgements import judgements
from tinytl.data.named_pictures import named_parts
from tinytl.runs.judged_pictures import LEAST_CERTAIN, WORST_MISTAKES, galleries


def test_galleries_name_pictures(make_imagefolder: Callable[..., Path]) -> None:
    root = make_imagefolder({"train/red": 3, "train/blue": 3, "val/red": 2, "val/blue": 1})
    data, parts = named_parts(small(dataset="imagefolder", data_dir=str(root), num_classes=None))
    found = judgements([0, 1, 1], [0, 0, 0], [0.7, 0.8, 0.6])
    shown = galleries(found, parts["val"], data.classes, 2)
    worst = [(one.row, one.file, one.label, one.predicted) for one in shown[WORST_MISTAKES]]
    assert worst == [(1, "val/red/00.png", "red", "blue"), (2, "val/red/01.png", "red", "blue")]
    assert [one.file for one in shown[LEAST_CERTAIN]] == ["val/red/01.png", "val/blue/00.png"]
