import ast
import re
import shlex
import sys

import pytest

from tests.support.places import ROOT
from tuner.__main__ import build_parser
from tuner.config import parse_study
from tuner.next_commands import (
    as_typed,
    called_as,
    launch_command,
    resume_command,
    sync_command,
    this_command,
    tuner_command,
    ui_command,
    where_flags,
)

PROGRAM = re.compile(r"python (launch\.py|-m tuner)")
HERE, SPACED = where_flags("runs"), where_flags("my runs")


@pytest.mark.parametrize(
    ("printed", "command"),
    [
        (tuner_command("status", "s", where=HERE), "python -m tuner status s"),
        (tuner_command("status", "s", where=SPACED), "python -m tuner status s --runs-dir 'my runs'"),
        (
            tuner_command("report", "s", where=SPACED, then=["--open"]),
            "python -m tuner report s --runs-dir 'my runs' --open",
        ),
        (
            tuner_command("stop", "s", "--address", "http://h:1"),
            "python -m tuner stop s --address http://h:1",
        ),
        (
            tuner_command("export", "s", "--trial", "s-001", where=SPACED),
            "python -m tuner export s --trial s-001 --runs-dir 'my runs'",
        ),
        (ui_command(None, SPACED), "python -m tuner ui --runs-dir 'my runs'"),
        (ui_command(None, SPACED, "s"), "python -m tuner ui s --runs-dir 'my runs'"),
        (
            ui_command("postgresql://ann:pw@h/d", HERE),
            "python -m tuner ui --tracking-uri postgresql://ann@h/d",
        ),
        (
            sync_command("s", SPACED, "sqlite:////a b/m.db"),
            "python -m tuner sync s --runs-dir 'my runs' --tracking-uri 'sqlite:////a b/m.db'",
        ),
        (
            tuner_command("status", "s", where=where_flags("runs", "postgresql://ann:pw@h/d")),
            "python -m tuner status s --storage postgresql://ann@h/d",
        ),
    ],
)
def test_a_printed_command_parses_and_quotes_folders_without_passwords(printed, command):
    assert printed == command
    words = shlex.split(printed)
    assert words[:3] == ["python", "-m", "tuner"]
    build_parser().parse_args(words[3:])


@pytest.mark.parametrize(
    ("program", "folder", "begins"),
    [
        ("launch.py", "elsewhere", "python launch.py "),
        ("/my code/launch.py", "elsewhere", "python '/my code/launch.py' "),
        ("/lib/tuner/__main__.py", "checkout", "python launch.py "),
        ("/lib/tuner/__main__.py", "elsewhere", "python -m tuner launch "),
        ("/bin/tuner", "elsewhere", "python -m tuner launch "),
    ],
)
def test_a_study_goes_on_by_what_runs_where_the_user_is(program, folder, begins, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.chdir(ROOT if folder == "checkout" else tmp_path)
    printed = resume_command("s", "my runs", "http://h:1")
    assert printed == f"{begins}--name s --resume --submit http://h:1 --runs-dir 'my runs'"
    flags = shlex.split(printed.removeprefix(begins))
    config, _ = parse_study(flags)
    assert (config.name, config.resume, config.runs_dir, config.submit) == (
        "s",
        True,
        "my runs",
        "http://h:1",
    )
    assert launch_command("--submit", "http://h:1") == f"{begins}--submit http://h:1"


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["launch.py", "--seed", "3"], "python launch.py --seed 3"),
        (
            ["launch.py", "--storage", "postgresql://a:pw@h/d"],
            "python launch.py --storage postgresql://a@h/d",
        ),
        (["/lib/tuner/__main__.py", "launch", "--seed", "3"], "python -m tuner launch --seed 3"),
        (["/bin/tuner", "launch", "--seed", "3"], "python -m tuner launch --seed 3"),
    ],
)
def test_a_command_line_is_kept_as_it_can_be_typed_again(argv, typed):
    assert shlex.join(as_typed(argv)) == typed


def test_a_caller_may_name_the_command_that_does_the_same(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/lib/ipykernel_launcher.py", "-f", "kernel.json"])
    with called_as(["tuner", "launch", "--storage=postgresql://a:pw@h/d"]):
        assert shlex.join(this_command()) == "python -m tuner launch --storage=postgresql://a@h/d"
    assert "kernel.json" in this_command()


def test_no_other_file_spells_a_program():
    found = []
    for path in (path for path in (ROOT / "tuner").rglob("*.py") if path.name != "next_commands.py"):
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path.relative_to(ROOT)}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
            if PROGRAM.search(node.value)
        ]
    assert found == [], "take it from tuner/next_commands.py"
