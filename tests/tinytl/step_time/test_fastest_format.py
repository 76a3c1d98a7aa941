"""Which format a run takes: measured once if it is long enough, kept, and asked for again."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.cases import small
from tinytl.config.plan import STOCK_BELOW_KIB, lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.device import gpu_emulated
from tinytl.step_time import fastest_format as module
from tinytl.step_time.fastest_format import MOST_OF_RUN, ROUNDS, fastest_format
from tinytl.step_time.kept import FILE_VARIABLE

CONFIG = small(method="TinyTL-B", norm="frozen_bn", batch_size=4, resolution=64)
N_FORMATS = len(STOCK_BELOW_KIB) + 1
LONG = round(2 * ROUNDS * N_FORMATS / MOST_OF_RUN)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FILE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many configurations each measurement took; the second is the fastest."""
    taken: list[int] = []

    def stand_in(configs: Sequence[TrainConfig], rounds: int, threads: int) -> list[float]:
        taken.append(len(configs))
        return [2.0, 1.0, 3.0, 4.0]

    monkeypatch.setattr(module, "measured_seconds", stand_in)
    return taken


def test_a_long_run_is_measured_once_and_what_follows_runs_as_it_did(measured: list[int]) -> None:
    expected = dataclasses.replace(lean_plan(CONFIG), stock_below_kib=STOCK_BELOW_KIB[1])
    assert fastest_format(CONFIG, LONG, 1) == expected
    again = dataclasses.replace(CONFIG, base_lr=0.5, seed=3)
    assert fastest_format(again, LONG, 1) == dataclasses.replace(expected, base_lr=0.5, seed=3)
    assert measured == [4]
    fastest_format(CONFIG, LONG, 2)
    fastest_format(dataclasses.replace(CONFIG, batch_size=2), LONG, 1)
    assert measured == [4, 4, 4]


def test_on_a_gpu_a_graph_is_measured_too_and_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[tuple[float | None, str | None, bool | None]]] = []

    def stand_in(configs: Sequence[TrainConfig], rounds: int, threads: int) -> list[float]:
        asked.append([(c.stock_below_kib, c.memory_format, c.cuda_graph) for c in configs])
        return [5.0, 4.0, 3.0, 6.0, 1.0, 2.0, 2.0, 2.0]

    monkeypatch.setattr(module, "measured_seconds", stand_in)
    with gpu_emulated():
        for _ in range(2):
            found = fastest_format(CONFIG, 2 * LONG, 1)
            assert found == dataclasses.replace(lean_plan(CONFIG), cuda_graph=True)
    ways = [*((kib, None) for kib in STOCK_BELOW_KIB), (STOCK_BELOW_KIB[-1], "contiguous")]
    assert asked == [[(*way, graph) for graph in (None, True) for way in ways]]


def test_contiguous_maps_are_chosen_if_they_are_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measured_seconds", lambda *_: [1.5, 1.4, 1.3, 1.2])
    for _ in range(2):  # the second time as it was kept
        found = fastest_format(CONFIG, LONG, 1)
        assert found is not None
        assert (found.stock_below_kib, found.memory_format) == (STOCK_BELOW_KIB[-1], "contiguous")


def test_a_short_run_takes_the_estimate_whatever_was_measured(measured: list[int]) -> None:
    assert fastest_format(CONFIG, LONG - 1, 1) is None
    assert measured == []
    fastest_format(CONFIG, LONG, 1)
    assert fastest_format(CONFIG, LONG - 1, 1) is None


def test_lean_blocks_win_a_near_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measured_seconds", lambda *_: [1.01, 1.0, 1.0, 1.0])
    assert fastest_format(CONFIG, LONG, 1) == lean_plan(CONFIG)


@pytest.mark.parametrize(
    "chosen",
    [{"resolution": 320}, {"stock_below_kib": 0.0}, {"engine": "stock"}, {"checkpoint": "all"}],
    ids=str,
)
def test_nothing_to_choose_is_not_measured(chosen: dict[str, object], measured: list[int]) -> None:
    assert fastest_format(dataclasses.replace(CONFIG, **chosen), LONG, 1) is None  # type: ignore[arg-type]
    assert measured == []


def test_named_times_are_not_measured(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "times.json"))
    assert fastest_format(CONFIG, LONG, 1) is None
    assert measured == []


PARTLY = '{"stock_below_kib": 7, "memory_format": null, "cuda_graph": null}'


@pytest.mark.parametrize("content", ["", "[]", "{}", PARTLY, '{"stock_below_kib": 0.0}'])
def test_what_is_no_choice_is_measured_again(content: str, measured: list[int], tmp_path: Path) -> None:
    fastest_format(CONFIG, LONG, 1)
    (kept,) = (tmp_path / "cache" / "tinytl").iterdir()
    kept.write_text(content)
    fastest_format(CONFIG, LONG, 1)
    assert measured == [4, 4]


def test_a_place_that_cannot_be_written_is_told_and_no_obstacle(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fastest_format(CONFIG, LONG, 1) is not None
    assert "the next program measures again" in caplog.text


def test_real_steps_are_measured() -> None:
    found = fastest_format(CONFIG, LONG, 1)
    assert found is not None and found.stock_below_kib in STOCK_BELOW_KIB
    assert fastest_format(CONFIG, LONG, 1) == found
