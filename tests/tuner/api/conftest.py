import pytest

import tuner
from tests.support import mlflow_studies as made
from tests.support.synthetic_study import write_study


@pytest.fixture
def small(tmp_path):
    """A study with every kind of trial; no plans, as an older version made it."""
    made.every_kind(made.prepared_study(tmp_path))
    return tuner.open_study(made.NAME, tmp_path)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Twenty trials that were never trained."""
    folder = tmp_path_factory.mktemp("runs")
    write_study(folder, "many", 20, 3)
    return tuner.open_study("many", runs_dir=folder)
