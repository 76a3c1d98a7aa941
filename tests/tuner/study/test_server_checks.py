import socket

import pytest

from tests.support.studies import free_port
from tinytl.errors import ConfigError
from tuner.config import StudyConfig
from tuner.study.server_checks import check_answers, check_schemes, check_servers


@pytest.fixture
def port():
    """Of a server that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_listens_answers_and_one_that_does_not_is_named(port):
    check_answers("there", "127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"^gone answers there \(Connection refused\): start it$"):
        check_answers("gone", "127.0.0.1", free_port(), ": start it")


@pytest.mark.parametrize(
    "settings",
    [
        {"tracking_uri": "http://127.0.0.1:{port}"},
        {"storage": "postgresql+psycopg://ann@127.0.0.1:{port}/d"},
        {"address": "127.0.0.1:{port}"},
        {"address": "ray://127.0.0.1:{port}"},
    ],
    ids=str,
)
def test_every_server_of_a_study_is_asked(settings, port):
    check_servers(StudyConfig(**{key: text.format(port=port) for key, text in settings.items()}))
    (flag, text), *_ = settings.items()
    away = StudyConfig(**{flag: text.format(port=free_port())})
    with pytest.raises(ConfigError, match=f"^--{flag.replace('_', '-')}.*answers there"):
        check_servers(away)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tracking_uri": "mlruns"}, "--tracking-uri mlruns: write an address that begins with one of"),
        ({"storage": "study.db"}, "--storage study.db: write a database's URL"),
    ],
)
def test_an_address_of_nothing_is_told_without_asking_for_it(settings, message):
    with pytest.raises(ConfigError) as caught:
        check_schemes(StudyConfig(**settings))
    assert str(caught.value).startswith(message)


def test_no_mlflow_needs_no_server():
    check_servers(StudyConfig(tracking_uri="none"))
