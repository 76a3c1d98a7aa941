import pytest

from tests.support.ray_jobs import dashboard, job
from tests.support.studies import free_port
from tuner.__main__ import build_parser, main
from tuner.commands.jobs import DASHBOARD

pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated")  # what Ray passes to aiohttp


@pytest.fixture
def cluster():
    """A cluster to which the study mine was sent twice; the later job has ended with 3."""
    first = job("mine", "SUCCEEDED", driver_exit_code=0, start_time=1)
    with dashboard([first, job("mine", "FAILED", id="mine-2", driver_exit_code=3, start_time=2)]) as served:
        yield served


def test_the_studies_of_a_cluster_are_listed(cluster, capsys):
    url, _ = cluster
    assert main(["jobs", "--address", url]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["study", "mine", "mine"]


def test_a_study_that_is_followed_ends_with_the_exit_code_of_its_last_job(cluster):
    url, asked = cluster
    assert main(["jobs", "--follow", "mine", "--address", url]) == 3
    assert "/api/jobs/mine-2" in asked and "/api/jobs/mine" not in asked


def test_mistakes_are_one_line(cluster, capsys):
    url, _ = cluster
    for argv, said in (
        (["--follow", "other", "--address", url], "other"),
        (["--address", f"http://127.0.0.1:{free_port()}"], "--address http://127.0.0.1:"),
        (["--address", "head:8265"], "--address head:8265"),
    ):
        assert main(["jobs", *argv]) == 2
        err = capsys.readouterr().err
        assert err.startswith("tuner jobs: ") and said in err and err.count("\n") == 1


def test_the_dashboard_is_that_of_this_machine_unless_given():
    args = build_parser().parse_args(["jobs"])
    assert (args.address, args.follow) == (DASHBOARD, None)
