import math

import pytest

import tuner
from tests.support import mlflow_studies as made
from tests.support.synthetic_study import write_study


def test_studies_side_by_side_are_a_table_a_picture_and_files(many, tmp_path):
    write_study(tmp_path, "few", 5, 3)
    few = tuner.open_study("few", tmp_path)
    found = tuner.compare(many, few, budgets_mib=[60, 100])
    assert list(found.table["budget_mib"]) == [60, 100, 60, 100] and found.table["leads"].any()
    best = found.table.set_index(["study", "budget_mib"]).loc[("few", 100), "accuracy_top1"]
    assert best == few.best(under_mib=100).accuracy_top1
    nothing_fits = tuner.compare(many, few, budgets_mib=[1]).table
    assert nothing_fits["accuracy_top1"].dtype == nothing_fits["slowdown"].dtype == float
    assert nothing_fits["accuracy_top1"].isna().all()
    assert set(found.hypervolumes) == {"many", "few"} and found.differences == []
    assert "<img" in found._repr_html_() and repr(found).startswith("study  complete  60 MiB")
    assert all(path.is_file() for path in found.write(tmp_path / "out"))


def test_a_study_without_results_is_beside_the_others(many, tmp_path):
    made.new_study(made.prepared_study(tmp_path))
    found = tuner.compare(many, tuner.open_study(made.NAME, tmp_path))
    assert math.isnan(found.hypervolumes[made.NAME])
    assert "they are of different images" in found.differences[0]


def test_one_study_is_a_mistake(many):
    with pytest.raises(ValueError, match="name two studies or more"):
        tuner.compare(many)
