import pytest

from search_spaces.space import load_space
from tuner.config import StudyConfig
from tuner.prepare import _read_weights
from tuner.trial_config import base_config


@pytest.mark.parametrize(
    ("methods", "read"),
    [(["FT-Last", "Scratch"], True), (["Scratch", "FT-Last"], True), ("Scratch", False)],
)
def test_weights_are_read_where_any_method_starts_from_them(methods, read):
    space = load_space("update_method").narrowed({"method": methods, "norm": "group_norm"})
    weights = _read_weights(space, base_config(StudyConfig(), space))
    assert set(weights) == ({"efficientnet_lite0"} if read else set())
