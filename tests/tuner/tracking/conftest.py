"""What the tests of MLflow share: a database whose tables are there."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.store.db import utils
from sqlalchemy import Engine


@pytest.fixture(scope="session")
def with_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture(autouse=True, scope="module")
def tables_are_made_once(with_tables: Path) -> Iterator[None]:
    """MLflow gives a new database its tables by all migrations since its first version. Here the first SQLite
    file of a process gets them so, and each later one is a copy of it.
    """
    initialize = utils._initialize_tables

    def copied(engine: Engine) -> None:
        if engine.url.get_backend_name() != "sqlite":
            initialize(engine)
            return
        if not with_tables.exists():
            initialize(engine)
            _copy(Path(str(engine.url.database)), with_tables)
        else:
            _copy(with_tables, Path(str(engine.url.database)))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(utils, "_initialize_tables", copied)
        yield


def _copy(database: Path, to: Path) -> None:
    source, copy = sqlite3.connect(database), sqlite3.connect(to)
    source.backup(copy)
    source.close()
    copy.close()
