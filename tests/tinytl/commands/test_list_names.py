import json

import pytest

from tinytl.__main__ import main
from tinytl.config.dataset_names import DATASETS
from tinytl.config.method_aliases import METHOD_ALIASES
from tinytl.config.train_config import BACKBONES, METHODS


def test_every_name_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert list(tables["backbone"]) == list(BACKBONES)
    assert list(tables["method"]) == list(METHODS)
    assert list(tables["dataset"]) == list(DATASETS)
    assert "4,652,008 parameters (1,000 classes)" in tables["backbone"]["efficientnet_lite0"]
    assert "3,504,872 parameters (1,000 classes)" in tables["backbone"]["mobilenet_v2"]
    assert tables["method"]["Last-5"] == (
        "trains the last 5 feature blocks and head (groups classifier, late); also called low"
    )
    assert all(alias in text for alias in METHOD_ALIASES)
    for table in (tables["backbone"], tables["method"], tables["dataset"]):
        assert all(f"  {name:<20} {line}" in text.splitlines() for name, line in table.items())
