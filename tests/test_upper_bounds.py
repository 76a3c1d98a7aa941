"""Packages whose private names are used (test_private_names.py) are held below a version never tried."""

import re
import tomllib

import pytest

from tests.support.places import ROOT


@pytest.mark.parametrize("package", ["torch", "ray", "optuna", "mlflow"])
def test_a_package_has_an_upper_bound(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    named = [text for group in groups for text in group if re.split(r"[\[<>=!~ ]", text)[0] == package]
    assert named, f"pyproject.toml does not name {package}"
    for text in named:
        assert re.search(r"<\s*\d", text), f"{text}: add an upper bound"
