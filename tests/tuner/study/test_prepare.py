import dataclasses
import datetime
import pickle
from pathlib import Path

import pytest

from search_spaces.space import load_space
from tests.support.published_sets import cub200
from tinytl.data.splits import ImageFiles
from tuner.config import StudyConfig
from tuner.prepared import PreparedStudy
from tuner.study.prepare import _read_weights, prepare
from tuner.trial_config import base_config


@pytest.mark.parametrize(
    ("methods", "read"),
    [(["FT-Last", "Scratch"], True), (["Scratch", "FT-Last"], True), ("Scratch", False)],
)
def test_weights_are_read_where_any_method_starts_from_them(methods, read):
    space = load_space("update_method").narrowed({"method": methods, "norm": "group_norm"})
    base = dataclasses.replace(base_config(StudyConfig(), space), num_classes=10)
    weights = _read_weights(space, base)
    assert set(weights) == {"efficientnet_lite0"}
    assert (weights["efficientnet_lite0"].backbone is not None) == read


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    cub200(tmp_path / "birds")
    return tmp_path / "birds"


def _prepare(birds: Path, *settings: str, notices: list[str | None] | None = None) -> PreparedStudy:
    config = StudyConfig(
        dataset="CUB-200-2011", data_dir=str(birds), download=True, weights="none",
        runs_dir=str(birds / "runs"), settings=settings,
    )  # fmt: skip
    told: list[str | None] = [] if notices is None else notices
    return prepare(config, datetime.datetime(2026, 1, 1), notice=told.append)


def test_what_streams_is_its_listing(birds: Path) -> None:
    notices: list[str | None] = []
    prepared = _prepare(birds, "loading=stream", "resolution=64,128", notices=notices)
    assert isinstance(prepared.data.train, ImageFiles)
    assert prepared.data.train.side == 147  # 8/7 of the largest input
    assert prepared.base.dataset == "cub200" and prepared.base.num_classes == 200
    assert prepared.base.loader_workers == 1
    assert len(pickle.dumps(prepared.data)) < 100_000
    extracting, reading = notices[:2]
    assert extracting and extracting.startswith("extracting ")
    assert reading == "reading 600 images"


def test_what_stays_in_memory_is_decoded_once(birds: Path) -> None:
    prepared = _prepare(birds, "resolution=64", "loader_workers=3")
    assert not isinstance(prepared.data.train, ImageFiles)
    assert prepared.base.loader_workers == 3
