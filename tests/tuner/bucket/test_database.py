import sqlite3
from contextlib import closing

import pytest

from tinytl.errors import ConfigError
from tuner.bucket.copies import copy_at
from tuner.bucket.database import DATABASE, bring_database, mlflow_at_hand, send_database, send_mlflow


def add(copy, row: int) -> None:
    with closing(sqlite3.connect(copy.root / DATABASE)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS runs (id INTEGER)")
        database.execute("INSERT INTO runs VALUES (?)", [row])


def rows(copy) -> list[int]:
    with closing(sqlite3.connect(copy.root / DATABASE)) as database:
        return [row for (row,) in database.execute("SELECT id FROM runs ORDER BY id")]


@pytest.fixture
def one(bucket):
    return copy_at(bucket.address, "one")


@pytest.fixture
def other(bucket):
    return copy_at(bucket.address, "other")


def test_a_database_goes_to_the_bucket_and_from_there_to_another_copy(one, other):
    bring_database(other)
    assert not (other.root / DATABASE).exists()
    assert send_database(one), "there is nothing to send"
    add(one, 1)
    assert send_database(one)
    bring_database(other)
    assert rows(other) == [1]
    add(other, 2)
    assert send_database(other)
    bring_database(one)
    assert rows(one) == [1, 2]


def test_what_another_has_sent_meanwhile_is_never_overwritten(one, other):
    add(one, 1)
    assert send_database(one)
    bring_database(other)
    add(other, 2)
    add(one, 3)
    assert send_database(other)
    assert not send_database(one)
    with pytest.raises(ConfigError, match=f"{one.bucket.address}/mlflow.db was written by another process"):
        send_mlflow(str(one.root))
    mlflow_at_hand(str(one.root))
    assert rows(one) == [1, 2]
    add(one, 3)
    send_mlflow(str(one.root))
    bring_database(other)
    assert rows(other) == [1, 2, 3]


def test_one_that_only_looked_sends_nothing(one, other):
    add(one, 1)
    assert send_database(one)
    version = one.bucket.versions("", deep=False)[DATABASE]
    bring_database(other)
    assert rows(other) == [1] and send_database(other)
    assert one.bucket.versions("", deep=False)[DATABASE] == version


def test_a_server_that_has_the_file_open_sees_what_is_brought(one, other):
    add(one, 1)
    assert send_database(one)
    bring_database(other)
    with closing(sqlite3.connect(other.root / DATABASE)) as open_there:
        assert open_there.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        add(one, 2)
        assert send_database(one)
        bring_database(other)
        assert open_there.execute("SELECT count(*) FROM runs").fetchone() == (2,)


def test_a_folder_that_is_no_copy_is_left_alone(tmp_path):
    mlflow_at_hand(str(tmp_path))
    send_mlflow(str(tmp_path))
    assert not list(tmp_path.glob("*.db"))
