import dataclasses
import datetime
import pickle
from pathlib import Path

import pytest
from PIL import Image

from search_spaces.space import load_space
from tests.support.published_sets import cub200
from tests.tinytl.conftest import write_imagefolder
from tinytl.data.splits import ImageFiles
from tinytl.errors import ConfigError
from tuner.config import StudyConfig, parse_study
from tuner.prepared import PreparedStudy
from tuner.study.opening import opened
from tuner.study.prepare import _at_own_resolution, _read_weights, left_aside, prepare
from tuner.trial_config import base_config, parse_settings


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


@pytest.mark.parametrize(
    ("name", "settings", "pixels"),
    [
        ("separate_lr", ["backbone=torchvision/mobilenet_v3_small"], 224),
        ("separate_lr", ["backbone=torchvision/mobilenet_v3_small", "resolution=64"], 96),  # a trial has 64
        ("separate_lr", [], 96),
        ("backbones", [], 96),  # each trial has what the space says
    ],
)
def test_a_study_of_one_named_network_has_its_own_size(name: str, settings: list[str], pixels: int) -> None:
    space = load_space(name).narrowed(parse_settings(settings))
    assert _at_own_resolution(space, base_config(StudyConfig(), space)).resolution == pixels


def test_what_stays_in_memory_is_decoded_once(birds: Path) -> None:
    prepared = _prepare(birds, "resolution=64", "loader_workers=3")
    assert not isinstance(prepared.data.train, ImageFiles)
    assert prepared.base.loader_workers == 3


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_imagefolder(tmp_path / "pictures", {"red": 5, "blue": 5})


def _study_of(pictures: Path, *flags: str) -> list[str]:
    argv = ["--dataset", "imagefolder", "--data-dir", str(pictures), "--weights", "none", "--name", "mine"]
    return [*argv, "--runs-dir", str(pictures.parent / "runs"), "--set", "method=FT-Last", *flags]


def test_a_folder_is_accounted_for_once(pictures: Path) -> None:
    (pictures / "red" / "notes.txt").write_text("")
    prepared = prepare(parse_study(_study_of(pictures))[0], datetime.datetime(2026, 1, 1))
    assert prepared.notes == (
        "pictures: 10 images of 2 classes (blue, red): 6 to train, 2 to validate, 2 to test; "
        "left out: 1 of ending .txt",
    )


def test_other_images_of_the_same_number_are_another_study(pictures: Path) -> None:
    argv = _study_of(pictures)
    with opened(prepare(parse_study(argv)[0], datetime.datetime(2026, 1, 1))):
        pass
    again = parse_study([*argv, "--resume"])[0]
    prepare(again, datetime.datetime(2026, 1, 1))
    Image.new("RGB", (12, 12), "black").save(pictures / "red" / "00.png")
    with pytest.raises(ConfigError, match="study mine has as many images, but other ones"):
        prepare(again, datetime.datetime(2026, 1, 1))


def test_what_does_not_decode_may_be_skipped(pictures: Path) -> None:
    (pictures / "red" / "00.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"00\.png does not decode"):
        prepare(parse_study(_study_of(pictures))[0], datetime.datetime(2026, 1, 1))
    prepared = prepare(parse_study(_study_of(pictures, "--skip-broken"))[0], datetime.datetime(2026, 1, 1))
    assert prepared.base.skip_broken and prepared.notes[0].endswith("; skipped: 1 that do not decode")


def test_a_budget_in_which_no_network_trains_is_refused_at_once(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinytl.memory.predict.predict_memory", lambda config: pytest.fail("predicted"))
    for budget in ("1e-320", "0.5"):
        config = parse_study(_study_of(pictures, "--memory-budget-mib", budget))[0]
        with pytest.raises(ConfigError, match="no network trains within 1 MiB"):
            prepare(config, datetime.datetime(2026, 1, 1))


def test_variables_of_other_tools_are_said_to_be_left_aside() -> None:
    environment = {
        "MLFLOW_TRACKING_URI": "http://user:secret@host:1",
        "RAY_ADDRESS": "10.0.0.1:6379",
        "PATH": "/",
    }
    uri, ray = left_aside(StudyConfig(), environment)
    assert uri.startswith("MLFLOW_TRACKING_URI is set and left aside: --tracking-uri http://")
    assert "secret" not in uri and "host:1 would use it" in uri
    assert ray == "RAY_ADDRESS is set and left aside: --address 10.0.0.1:6379 would use it"
    assert left_aside(StudyConfig(tracking_uri="none", address="10.0.0.2:1"), environment) == []


PINNED = ["--set=resolution=32", "--set=method=FT-Full", "--set=norm=group_norm", "--set=batch_size=8"]


def test_a_budget_that_only_a_fixed_plan_breaks_says_so(pictures: Path) -> None:
    settings = [*PINNED, "--set=micro_batch_size=8", "--set=checkpoint=none"]
    config = parse_study(_study_of(pictures, "--memory-budget-mib", "20", *settings))[0]
    with pytest.raises(ConfigError) as error:
        prepare(config, datetime.datetime(2026, 1, 1))
    line = str(error.value)
    assert "with the plan that it fixes (micro_batch_size 8, checkpoint none): the least is " in line
    assert "; if the plan is left open, it is " in line


def test_a_budget_under_that_of_a_fixed_plan_is_refused_at_once(pictures: Path) -> None:
    settings = [*PINNED, "--set=plan=budget", "--set=budget_mib=400"]
    config = parse_study(_study_of(pictures, "--memory-budget-mib", "300", *settings))[0]
    with pytest.raises(ConfigError, match=r"--memory-budget-mib 300 is under the budget_mib 400 for which"):
        prepare(config, datetime.datetime(2026, 1, 1))


def test_a_bad_limit_of_stored_features_is_told_before_anything_is_read(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYTL_FEATURES_MIB", "lots")
    with pytest.raises(ConfigError, match="TINYTL_FEATURES_MIB=lots is no whole number of MiB"):
        prepare(parse_study(_study_of(pictures))[0], datetime.datetime(2026, 1, 1))
    assert not (pictures.parent / "runs").exists()


def test_what_a_list_excludes_decides_which_study_it_is(pictures: Path, tmp_path: Path) -> None:
    dropped = tmp_path / "drop.txt"
    dropped.write_text("red/00.png\n")
    argv = _study_of(pictures, "--exclude", str(dropped))
    prepared = prepare(parse_study(argv)[0], datetime.datetime(2026, 1, 1))
    assert prepared.base.exclude == str(dropped)
    assert "; excluded: 1 by drop.txt; this leaves " in prepared.notes[0]
    with opened(prepared):
        pass
    again = parse_study(["--name", "mine", "--runs-dir", prepared.config.runs_dir, "--resume"])[0]
    assert again.exclude == str(dropped)
    prepare(again, datetime.datetime(2026, 1, 1))
    dropped.write_text("red/01.png\n")
    with pytest.raises(ConfigError, match=r"study mine has .*images"):
        prepare(again, datetime.datetime(2026, 1, 1))
