"""What the tests find on their PATH: what the lists name, and nothing that somebody installed by hand."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.places import ROOT

CI = ROOT / ".ci"
BASE, SYSTEM = CI / "base-tools.txt", CI / "system-packages.txt"


def tools_of(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines() if not line.startswith("#")]


def link_tools(folder: Path, *lists: Path, path: str) -> subprocess.CompletedProcess[str]:
    argv = [str(CI / "link-tools"), str(folder), *map(str, lists)]
    return subprocess.run(argv, env={"PATH": path}, capture_output=True, text=True)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs: all that the lists name, and a docker that nobody listed."""
    folder = tmp_path / "machine"
    folder.mkdir()
    for tool in {*tools_of(BASE), *tools_of(SYSTEM), "docker", "ln", "rm", "tr"}:
        (folder / tool).symlink_to("/bin/true")
    for tool in ("sed", "mkdir", "ln", "rm", "tr"):  # of link-tools itself
        (folder / tool).unlink()
        (folder / tool).symlink_to(f"/bin/{tool}")
    return folder


def test_a_tool_that_no_list_names_is_not_found(machine: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "docker").symlink_to("/bin/true")  # of an older list
    done = link_tools(links, BASE, path=str(machine))
    assert (done.returncode, done.stderr) == (0, "")
    assert {link.name for link in links.iterdir()} == set(tools_of(BASE))
    assert all(link.readlink() == machine / link.name for link in links.iterdir())
    done = link_tools(links, BASE, SYSTEM, path=str(machine))
    assert {link.name for link in links.iterdir()} == {*tools_of(BASE), *tools_of(SYSTEM)}


def test_what_is_missing_is_one_line_with_the_command_that_brings_it(machine: Path, tmp_path: Path) -> None:
    (machine / "git").unlink()
    (machine / "chromium").unlink()
    done = link_tools(tmp_path / "links", BASE, SYSTEM, path=str(machine))
    assert done.returncode == 2
    assert done.stderr == "this machine lacks git, chromium: run 'make system-packages'\n"


@pytest.mark.parametrize(
    ("target", "links"),
    [("lint", "base-tools"), ("test", "base-tools"), ("test-all", "all-tools")],
)
def test_every_recipe_sees_the_environment_and_the_listed_tools_only(
    target: str, links: str, tmp_path: Path
) -> None:
    shell = tmp_path / "shell"  # what make calls for each line of a recipe
    shell.write_text('#!/bin/sh\neval "${2%%;*}"\necho "$PATH"\n')  # the first command sets it
    shell.chmod(0o755)
    prepared = [f"--old-file={name}" for name in ("setup", "peers", "base-tools", "all-tools")]
    argv = ["make", "--silent", *prepared, f"SHELL={shell}", target]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"MAKEFLAGS": ""})
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {f"{ROOT}/.venv/bin:{ROOT}/build/{links}"}


def test_the_list_names_no_more_than_is_called() -> None:
    folders = ("docker/*.sh", "docker/slurm/*", "examples/*.sh", "tests/**/*.py")
    scripts = [path for pattern in folders for path in ROOT.glob(pattern)]
    text = "\n".join(path.read_text() for path in scripts if path != Path(__file__))
    unused = [
        tool
        for tool in tools_of(BASE)
        if not re.search(rf"(?m)(^\s*|\$\(|[|&] |#!/(usr/)?bin/(env )?){tool}\b|\[\"{tool}\",", text)
    ]
    assert unused == ["make"]  # this file's own
