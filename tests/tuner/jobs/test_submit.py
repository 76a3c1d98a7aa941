import shlex

import pytest

from tests.support.studies import free_port
from tinytl.errors import ConfigError
from tuner.config import parse_study
from tuner.jobs.submit import _check_here, _pack


def config_of(argv):
    return parse_study(argv)[0]


def test_the_code_and_the_files_that_flags_name_travel_and_the_rest_stays(tmp_path):
    space, first = tmp_path / "a" / "mine.yaml", tmp_path / "b" / "mine.yaml"
    space.parent.mkdir()
    first.parent.mkdir()
    space.write_text("parameters:\n  base_lr: {low: 1e-4, high: 1e-2}\n")
    first.write_text("base_lr: 0.001\n")
    argv = ["--submit", "http://127.0.0.1:1", "--space", str(space), f"--from-config={first}", "--name", "n"]
    (tmp_path / "tree").mkdir()
    flags = _pack(config_of(argv), [*argv, "--trials", "2"], tmp_path / "tree")
    given = "--from-config given/from-config/mine.yaml --space given/space/mine.yaml"
    assert shlex.join(flags) == f"--trials 2 {given}"
    for name, file in (("space", space), ("from-config", first)):
        assert (tmp_path / "tree" / "given" / name / "mine.yaml").read_text() == file.read_text()
    tops = {path.name for path in (tmp_path / "tree").iterdir()}
    assert tops == {"launch.py", "search_spaces", "tinytl", "tuner", "given"}
    assert not list((tmp_path / "tree").rglob("__pycache__"))
    assert (tmp_path / "tree" / "search_spaces" / "joint.yaml").is_file()


def test_a_space_by_name_travels_with_the_code(tmp_path):
    argv = ["--space", "joint", "--runs-dir", "/shared"]
    assert _pack(config_of(argv), argv, tmp_path) == argv
    assert not (tmp_path / "given").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--runs-dir runs is looked for on the cluster: give its whole path there"),
        (
            ["--runs-dir", "/r", "--dataset", "imagefolder", "--data-dir", "pets"],
            "--data-dir pets is looked for",
        ),
        (
            ["--runs-dir", "/r", "--dataset", "imagefolder", "--data-dir", "/pets", "--exclude", "drop.csv"],
            "--exclude drop.csv is looked for",
        ),
        (["--runs-dir", "/r", "--weights", "w.pt"], "--weights w.pt is looked for on the cluster"),
        (["--runs-dir", "/r", "--storage", "sqlite:///s.db"], "--storage sqlite:///s.db is looked for"),
        (["--runs-dir", "/r", "--tracking-uri", "sqlite+pysqlite:///m.db"], "pysqlite:///m.db is looked"),
        (["--runs-dir", "/r", "--storage", "journal.log"], "--storage journal.log: write a database's URL"),
        (["--runs-dir", "/r", "--tracking-uri", "mlruns"], "--tracking-uri mlruns: write an address"),
        (
            ["--runs-dir", "/r", "--storage", "postgresql://a:b@db/s"],
            "give postgresql://a@db/s, and set PGPASSWORD",
        ),
        (
            ["--runs-dir", "/r", "--weights", "https://b/w.pth?X-Amz-Signature=s"],
            "give https://b/w.pth, and set PGPASSWORD",
        ),
        (["--runs-dir", "/r", "--space", "jont"], "unknown space 'jont': did you mean 'joint'?"),
        (["--runs-dir", "/r", "--from-config", "gone.yaml"], "--from-config gone.yaml: no such file"),
    ],
)
def test_a_mistake_that_can_be_found_here_is_found_before_anything_is_sent(argv, message):
    with pytest.raises(ConfigError) as caught:
        _check_here(config_of(argv), argv)
    assert message in str(caught.value)


def test_what_lies_on_the_cluster_passes():
    argv = [
        "--runs-dir",
        "/r",
        "--weights",
        "/r/w.pt",
        "--storage",
        "postgresql://a@db/s",
        "--weights",
        "none",
    ]
    _check_here(config_of(argv), argv)


def test_a_dashboard_that_does_not_answer_is_one_line(capsys):
    import launch

    address = f"http://127.0.0.1:{free_port()}"
    assert launch.main(["--submit", address, "--runs-dir", "/r"]) == 2
    assert f"launch.py: --submit {address}: no Ray dashboard answers there (" in capsys.readouterr().err
    assert launch.main(["--submit", "head:8265", "--runs-dir", "/r"]) == 2
    assert "write the dashboard's address, such as http://127.0.0.1:8265" in capsys.readouterr().err
