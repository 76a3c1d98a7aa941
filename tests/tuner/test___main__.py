import pytest

from tuner.__main__ import main

MISTAKES = [
    ("statsu s", "tuner: unknown command 'statsu': did you mean 'status'?"),
    ("status", "tuner status: NAME is missing"),
    ("status s --jsno", "tuner status: unknown flag --jsno: did you mean --json?"),
    ("best s --under-mib abc", "tuner best: --under-mib abc: a number of MiB is needed, such as 60"),
    (
        "export s --trial a --under-mib 3",
        "tuner export: --under-mib and --trial exclude each other: give one",
    ),
    ("report s --out", "tuner report: --out has no value: give FILE"),
    ("ui --port http", "tuner ui: --port http: a port is needed, a number from 1 to 65535"),
    ("stop s --wait long", "tuner stop: --wait long: a number of seconds is needed, such as 3600"),
    ("delete s --yse", "tuner delete: unknown flag --yse: did you mean --yes?"),
    ("launch --trails 3", "tuner launch: unknown flag --trails: did you mean --trials?"),
    ("launch --trials x", "tuner launch: --trials x: a whole number is needed"),
    ("launch --trials", "tuner launch: --trials has no value: a whole number is needed"),
    ("launch --memory-budget-mib abc", "tuner launch: --memory-budget-mib abc: a number of MiB is needed"),
    ("launch joint", "tuner launch: 'joint' is one word too many"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_on_the_command_line_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    err = capsys.readouterr().err
    assert stopped.value.code == 2 and err.startswith(message) and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("launch --sampler tpee", "tuner launch: unknown sampler 'tpee': did you mean 'tpe'?"),
        ("launch --resume", "tuner launch: --resume needs --name"),
    ],
)
def test_a_study_is_launched_by_the_same_checks_as_by_the_script(words, message, capsys):
    assert main(words.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(message) and err.count("\n") == 1


def test_the_spaces_are_listed_without_a_checkout(capsys):
    assert main(["launch", "--list-spaces"]) == 0
    assert "separate_lr: " in capsys.readouterr().out
