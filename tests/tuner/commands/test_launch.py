"""How the command ends. Bad flags are in tests/tuner/test_launch.py, whole runs in tests/integration."""

import pytest

from tinytl.errors import ConfigError
from tuner.__main__ import build_parser
from tuner.commands import launch
from tuner.config import PROGRAM


@pytest.mark.parametrize("program", [PROGRAM, "tuner launch"])
def test_a_mistake_is_told_under_the_name_that_was_typed(program, capsys):
    assert launch.main(["--trials", "0"], program) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"{program}: --trials 0: ") and shown.err.count("\n") == 1
    assert shown.out == ""


def test_the_process_own_words_are_taken_if_none_are_given(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", [PROGRAM, "--list-spaces"])
    assert launch.main() == 0
    assert "\njoint: " in "\n" + capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [(KeyboardInterrupt(), 130, "launch.py: "), (ConfigError("one line"), 2, "launch.py: one line\n")],
)
def test_what_ends_a_study_from_within_is_an_exit_code(raised, code, said, capsys, monkeypatch):
    def prepare(*args):
        raise raised

    monkeypatch.setattr("tuner.study.prepare.prepare", prepare)
    assert launch.main([]) == code
    err = capsys.readouterr().err.rpartition("launch.py: ")
    assert (err[1] + err[2]).startswith(said) and err[2].count("\n") == 1


def test_a_bug_is_not_called_a_mistake(monkeypatch):
    def prepare(*args):
        raise ZeroDivisionError

    monkeypatch.setattr("tuner.study.prepare.prepare", prepare)
    with pytest.raises(ZeroDivisionError):
        launch.main([])


def test_a_study_that_is_sent_away_is_not_prepared_here(monkeypatch):
    sent = []
    monkeypatch.setattr("tuner.jobs.submit.submit", lambda config, argv, console: sent.append(argv) or 7)
    argv = ["--submit", "http://127.0.0.1:8265", "--runs-dir", "/shared"]
    assert launch.main(argv) == 7
    assert sent == [argv]


def test_its_name_stands_among_the_commands_and_its_flags_are_its_own(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--help"])
    assert "\n    launch " in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        launch.main(["--help"], "tuner launch")
    assert stopped.value.code == 0 and "usage: tuner launch " in capsys.readouterr().out
