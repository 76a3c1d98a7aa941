from datetime import datetime

import pytest
from rich.console import Console

from tests.support.ray_jobs import dashboard, job
from tests.support.synthetic_study import write_study
from tuner.jobs.listing import print_jobs

BEGAN_MS = 1_700_000_000_000


def listed(jobs) -> list[str]:
    console = Console(width=150)
    with dashboard(jobs) as (url, _), console.capture() as captured:
        print_jobs(console, url)
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("status", "code", "state", "with_message"),
    [
        ("PENDING", None, "waiting", True),
        ("RUNNING", None, "running", False),
        ("SUCCEEDED", 0, "done", False),
        ("FAILED", 1, "failed", True),
        ("FAILED", 2, "refused", True),
        ("FAILED", 130, "stopped", False),
        ("STOPPED", None, "stopped", False),
        ("FAILED", None, "failed", True),
    ],
)
def test_a_study_is_called_by_its_exit_code_and_ray_is_quoted_only_if_it_has_something_to_say(
    status, code, state, with_message
):
    words = listed([job("mine", status, driver_exit_code=code, message="so\n  it was")])[1].split()
    assert words == ["mine", state, *("so it was".split() if with_message else ())]


def test_the_newest_comes_first_with_its_last_change_and_what_is_no_study_is_left_out():
    jobs = [
        job("old", "SUCCEEDED", driver_exit_code=0, start_time=BEGAN_MS, end_time=BEGAN_MS + 3_600_000),
        job("new", "RUNNING", start_time=BEGAN_MS + 60_000),
        job("else", "RUNNING") | {"metadata": {}},
    ]
    lines = [line.split() for line in listed(jobs)]
    moments = [f"{datetime.fromtimestamp(BEGAN_MS / 1000 + s):%Y-%m-%d %H:%M}".split() for s in (60, 3600)]
    assert lines[1:] == [["new", "running", *moments[0]], ["old", "done", *moments[1]]]


def test_how_far_a_study_is_stands_there_if_its_folder_can_be_seen_from_here(tmp_path):
    write_study(tmp_path, "mine", 3, 3)
    jobs = [job("mine", "RUNNING", runs_dir=tmp_path), job("gone", "RUNNING", runs_dir=tmp_path / "no")]
    assert [line.split() for line in listed(jobs)[1:]] == [["mine", "running", "3/3"], ["gone", "running"]]
    assert not (tmp_path / "no").exists()


def test_a_cluster_without_studies_is_told_how_to_send_one():
    (line,) = listed([])
    assert "--submit http://127.0.0.1:" in line
