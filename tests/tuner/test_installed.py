import sys

import pytest

import launch
from tuner import installed
from tuner.__main__ import main


@pytest.mark.parametrize(
    ("run", "program"),
    [
        (lambda: main(["status", "mine"]), "tuner status"),
        (lambda: main(["launch"]), "tuner launch"),
        (lambda: launch.main([]), "launch.py"),
    ],
)
def test_a_search_without_its_packages_is_one_line(run, program, monkeypatch, capsys):
    monkeypatch.setattr(installed, "find_spec", lambda name: None if name != "ray" else sys)
    assert run() == 2
    said = capsys.readouterr().err
    line = f"{program}: the search needs optuna, mlflow: pip install 'tinytl-tuner[tuner]'\n"
    assert said.endswith(line) and said.count("\n") == 1
