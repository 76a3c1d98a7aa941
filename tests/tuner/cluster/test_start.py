"""What Ray is asked for, and how often. Ray itself starts in tests/integration."""

import os
import sys
import threading
from types import SimpleNamespace

import pytest
import ray
from ray._private import ray_constants, services, utils

from tinytl.errors import ConfigError
from tuner.cluster import start
from tuner.cluster.start import Cluster
from tuner.config import StudyConfig

SLOW = "The current node timed out during startup."
TAKEN = "ValueError: Failed to start the dashboard: port 8265 is already occupied"


@pytest.fixture
def ray_says(monkeypatch):
    """Has ray.init raise these texts one after the other, and then succeed; gives its calls."""
    calls = []

    def prepare(*texts, url="127.0.0.1:8265"):
        left = list(texts)

        def init(**flags):
            calls.append(flags)
            if left:
                raise Exception(left.pop(0))
            return SimpleNamespace(dashboard_url=url)

        monkeypatch.setattr(ray, "init", init)
        return calls

    monkeypatch.setattr(start, "PAUSE_S", 0.0)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "TUNE_"))}
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(services, "ConsolePopen", services.ConsolePopen)
    monkeypatch.setattr(ray._private.worker, "_worker_logs_enabled", True)
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    monkeypatch.setattr(utils, "get_entrypoint_name", utils.get_entrypoint_name)
    return prepare


def test_what_the_study_asks_for_is_what_ray_is_asked_for(ray_says):
    calls = ray_says()
    cluster = Cluster(StudyConfig(workers=3, dashboard=True, dashboard_port=8300))
    assert cluster.dashboard_url() == "http://127.0.0.1:8265"
    (flags,) = calls
    assert (flags["address"], flags["num_cpus"]) == ("local", 3)
    assert (flags["include_dashboard"], flags["dashboard_port"]) == (True, 8300)
    assert flags["log_to_driver"] is False and ray._private.worker._worker_logs_enabled is False
    assert os.environ.items() >= start.SETTINGS.items()
    assert os.environ[start.ON_NETWORK] == "0" and not ray_constants.ENABLE_RAY_CLUSTER


def test_the_command_that_ray_shows_has_no_password(ray_says, monkeypatch):
    ray_says()
    monkeypatch.setattr(sys, "argv", ["launch.py", "--storage", "postgresql://me:hush@db/x"])
    Cluster(StudyConfig()).dashboard_url()
    assert utils.get_entrypoint_name() == "python launch.py --storage postgresql://me@db/x"


def test_who_says_so_lets_ray_listen_on_every_interface(ray_says):
    ray_says()
    os.environ[start.ON_NETWORK] = "1"
    Cluster(StudyConfig()).dashboard_url()
    assert ray_constants.ENABLE_RAY_CLUSTER


def test_without_a_dashboard_there_is_no_address(ray_says):
    ray_says(url="")
    assert Cluster(StudyConfig()).dashboard_url() == ""


def test_what_the_user_has_set_stays(ray_says):
    ray_says()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "1"
    Cluster(StudyConfig()).dashboard_url()
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


@pytest.mark.parametrize("texts", [[SLOW], [SLOW, TAKEN]])
def test_a_start_that_came_to_nothing_is_made_again(texts, ray_says):
    calls = ray_says(*texts)
    assert Cluster(StudyConfig()).dashboard_url()
    assert len(calls) == len(texts) + 1


def test_a_port_that_stays_taken_is_named(ray_says):
    calls = ray_says(*[TAKEN] * start.STARTS)
    with pytest.raises(ConfigError, match="--dashboard-port 8300"):
        Cluster(StudyConfig(dashboard=True, dashboard_port=8300)).dashboard_url()
    assert len(calls) == start.STARTS


@pytest.mark.parametrize("texts", [[SLOW] * start.STARTS, [SLOW, TAKEN, TAKEN]])
def test_a_machine_that_is_too_slow_is_named_not_the_port_that_our_own_start_holds(texts, ray_says):
    calls = ray_says(*texts)
    with pytest.raises(ConfigError, match=r"did not answer within half a minute, 3 times"):
        Cluster(StudyConfig()).dashboard_url()
    assert len(calls) == start.STARTS


def test_what_is_no_mistake_of_the_users_stays_what_it_is(ray_says):
    calls = ray_says("a bug")
    with pytest.raises(Exception, match="a bug") as raised:
        Cluster(StudyConfig()).dashboard_url()
    assert not isinstance(raised.value, ConfigError) and len(calls) == 1


def test_its_token_is_for_this_user_alone(ray_says, tmp_path):
    ray_says()
    token = tmp_path / "auth_token"
    token.write_text("secret")
    token.chmod(0o644)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    Cluster(StudyConfig()).dashboard_url()
    assert token.stat().st_mode & 0o777 == 0o600
    token.unlink()
    Cluster(StudyConfig()).dashboard_url()


def test_a_ray_that_runs_in_the_process_is_named(ray_says, monkeypatch):
    ray_says()
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    with pytest.raises(ConfigError, match=r"Ray runs in this process already: end it with ray\.shutdown\(\)"):
        Cluster(StudyConfig()).begin()


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_where_ray_has_no_place_is_named(variable, tmp_path, ray_says):
    ray_says()
    (tmp_path / "file").write_text("")
    for folder, said in ((tmp_path / ("d" * 90), "107 that a system takes"), ("/proc/x", "cannot be made")):
        os.environ.pop("TMPDIR", None)
        os.environ[variable] = str(folder)
        with pytest.raises(ConfigError, match=said) as told:
            Cluster(StudyConfig()).begin()
        assert str(told.value).startswith(f"{variable}={folder}: ")
    Cluster(StudyConfig(address="10.0.0.1:6379", dry_run=True)).begin()


def test_a_cluster_that_is_there_is_joined_and_none_is_started(ray_says, monkeypatch):
    calls = ray_says()
    monkeypatch.setattr(start, "join", lambda address: f"http://head of {address}")
    assert Cluster(StudyConfig(address="10.0.0.1:6379")).dashboard_url() == "http://head of 10.0.0.1:6379"
    assert calls == [] and "RAY_preload_python_modules" not in os.environ


def test_it_comes_up_once_and_beside_what_else_is_checked(monkeypatch):
    may_end, began = threading.Event(), []

    def slowly(config):
        began.append(config)
        assert may_end.wait(10)
        return "url"

    monkeypatch.setattr(start, "_start", slowly)
    cluster = Cluster(StudyConfig())
    cluster.begin()
    cluster.begin()
    may_end.set()
    assert cluster.dashboard_url() == "url" and len(began) == 1


def test_a_dry_run_starts_nothing_and_leaves_nothing_to_end(monkeypatch):
    monkeypatch.setattr(start, "_start", lambda config: pytest.fail("Ray was started"))
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("Ray was ended"))
    cluster = Cluster(StudyConfig(dry_run=True))
    cluster.begin()
    cluster.end()


def test_ray_is_ended_while_the_thread_that_started_it_lives(ray_says, monkeypatch):
    """Ray's processes die with that thread: Ray would then wait for answers of processes that are gone."""
    ray_says()
    others, alive = set(threading.enumerate()), []
    monkeypatch.setattr(ray, "shutdown", lambda: alive.extend(set(threading.enumerate()) - others))
    cluster = Cluster(StudyConfig())
    cluster.begin()
    cluster.end()
    assert alive and not any(thread.is_alive() for thread in alive)


def test_a_cluster_that_nobody_wants_ends_once_it_has_started_and_the_next_one_waits(ray_says, monkeypatch):
    ray_says()
    may_start, ended = threading.Event(), []
    plainly = start._start

    def slowly(config):
        assert may_start.wait(10)
        return plainly(config)

    monkeypatch.setattr(start, "_start", slowly)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append(threading.current_thread().name))
    cluster = Cluster(StudyConfig())
    cluster.begin()
    cluster.abandon()
    cluster.abandon()
    cluster.end()
    assert ended == []
    monkeypatch.setattr(start, "_check_ray_is_free", lambda config: ended.append("next"))
    threading.Timer(0.2, may_start.set).start()
    Cluster(StudyConfig()).begin()
    assert ended == ["ray_0", "next"]
