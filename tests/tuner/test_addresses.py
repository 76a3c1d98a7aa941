from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tinytl.errors import ConfigError
from tuner.addresses import dialect_of, is_server, is_sqlite, place_of, sqlite_file, with_whole_path

# address -> its kind, and the file that it names
ADDRESSES = {
    "sqlite:///a.db": ("sqlite", "a.db"),
    "sqlite:///runs/my studies/a.db": ("sqlite", "runs/my studies/a.db"),
    "sqlite:////srv/a.db": ("sqlite", "/srv/a.db"),
    "sqlite+pysqlite:////srv/a.db": ("sqlite", "/srv/a.db"),
    "sqlite:////srv/a.db?timeout=30": ("sqlite", "/srv/a.db"),
    "sqlite://": ("sqlite", None),
    "sqlite:///:memory:": ("sqlite", None),
    "postgresql+psycopg://me:p%40ss@db:5432/study": ("postgresql", None),
    "mysql://me@db/study": ("mysql", None),
    "http://me:secret@mlflow:5000": ("http", None),
    "https://mlflow/x": ("https", None),
    "/srv/a.db": ("", None),
    "a.db": ("", None),
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_kind_and_file_of_an_address(address):
    kind, file = ADDRESSES[address]
    assert dialect_of(address) == kind
    assert is_sqlite(address) == (kind == "sqlite")
    assert is_server(address) == (kind in ("http", "https"))
    assert sqlite_file(address) == (file and Path(file))


@pytest.mark.parametrize("address", [address for address, (kind, _) in ADDRESSES.items() if kind == "sqlite"])
def test_a_file_is_the_one_that_sqlalchemy_opens(address):
    database = make_url(address).database
    assert sqlite_file(address) == (None if database in (None, ":memory:") else Path(database))


@pytest.mark.parametrize(
    ("address", "whole"),
    [
        ("sqlite:///a.db", "sqlite:///{here}/a.db"),
        ("sqlite+pysqlite:///s/../a.db?timeout=3", "sqlite+pysqlite:///{here}/a.db?timeout=3"),
        ("sqlite:///file:a.db?mode=ro&uri=true", "sqlite:///file:{here}/a.db?mode=ro&uri=true"),
        ("sqlite:////srv/a.db", "sqlite:////srv/a.db"),
        ("sqlite://", "sqlite://"),
        ("postgresql://me@db/x", "postgresql://me@db/x"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_a_whole_path_means_the_same_in_any_folder(address, whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert with_whole_path(address) == whole.format(here=tmp_path)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("postgresql+psycopg://me@db:5432/x", ("postgresql+psycopg", "db", 5432)),
        ("http://127.0.0.1", ("http", "127.0.0.1", None)),
        ("sqlite:///a.db", ("sqlite", "", None)),
    ],
)
def test_host_and_port_of_an_address(address, place):
    assert place_of("--storage", address) == place


def test_an_address_that_cannot_be_read_is_refused_without_its_password():
    with pytest.raises(ConfigError, match=r"^--storage http://db:99999: write SCHEME://HOST:PORT") as caught:
        place_of("--storage", "http://me:secret@db:99999")
    assert "secret" not in str(caught.value)
