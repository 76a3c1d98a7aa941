import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.cases import small
from tests.support.colours import classes_of_one_colour, colours
from tests.support.sampled import sampled
from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import DataSplits
from tinytl.memory.predict import predict_memory, resolve_plan, with_scheme
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS
from tinytl.networks.update_scheme import (
    Part,
    candidates,
    last_scheme,
    layers_of,
    scheme_of,
    scheme_of_parts,
)
from tinytl.selection import choose

CONFIG = small(method="Sparse", norm="group_norm", select="fisher")
DATA = colours(24, 12)


@pytest.fixture(autouse=True)
def nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choose, "_KNOWN", {})


@pytest.fixture
def some_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first five parts train. How many need no more memory than others takes some fifteen predictions."""

    def first_parts(_: TrainConfig, config: TrainConfig, order: Sequence[Part]) -> TrainConfig:
        scheme = scheme_of_parts(order[:5], config)
        return dataclasses.replace(config, update_scheme=scheme.text(layers_of(config)))

    monkeypatch.setattr(choose, "filled_as", first_parts)


def made_up(config: TrainConfig) -> choose.Scores:
    """The deeper, the more per byte; within a layer the last channel is worth most."""
    found = {}
    for layer in layers_of(config):
        each = layer.bytes_of(1, config)
        found[layer.name] = [each * (layer.block + channel / 1000) for channel in range(layer.channels)]
    return found


def first_blocks_first(config: TrainConfig) -> choose.Scores:
    return {
        layer.name: [layer.bytes_of(1, config) / layer.block] * layer.channels for layer in layers_of(config)
    }


def test_parts_come_by_worth_per_byte() -> None:
    order = choose.by_worth(made_up(CONFIG), CONFIG)
    blocks = [part.layer.block for part in order]
    assert blocks == sorted(blocks, reverse=True)
    assert order[0].channels == tuple(range(159, 139, -1))
    assert len({(part.layer.name, channel) for part in order for channel in part.channels}) == sum(
        layer.channels for layer in candidates(CONFIG)
    )


@pytest.mark.parametrize("norm", sampled(["frozen_bn", "group_norm"], 2))
def test_it_needs_no_more_memory_than_the_last_blocks_would(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(choose._JUDGES, "fisher", lambda config, *_: first_blocks_first(config))
    config = dataclasses.replace(CONFIG, norm=norm, update_blocks=3, channel_ratio=0.5, resolution=64)
    found = choose.chosen(config, DATA, RANDOM_WEIGHTS)
    last = with_scheme(dataclasses.replace(config, select="last"))
    peaks = [
        predict_memory(resolve_plan(dataclasses.replace(one, plan="smallest"))).peak_mib
        for one in (found, last)
    ]
    assert 0.9 * peaks[1] < peaks[0] <= 1.001 * peaks[1]
    assert min(int(name.split(".")[0]) for name in scheme_of(found).channels) < 15


def test_what_does_harm_comes_last_and_of_that_the_least_first() -> None:
    scores = {layer.name: [-layer.block / layer.channels] * layer.channels for layer in candidates(CONFIG)}
    scores["9.pw1"] = [1e-9] * len(scores["9.pw1"])
    order = [part.layer.name for part in choose.by_worth(scores, CONFIG)]
    assert order[0] == "9.pw1" and order[-1] == "17.pw1"
    assert order[8:16] == 8 * ["2.pw1"]


@pytest.mark.usefixtures("some_train")
def test_a_damaged_file_of_scores_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choose._JUDGES, "fisher", lambda config, *_: made_up(config))
    first = choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS)
    (file,) = tmp_path.rglob("selection_*.json")
    for text in (file.read_text()[:100], "[]", '{"scores": 3}', ""):
        file.write_text(text)
        monkeypatch.setattr(choose, "_KNOWN", {})
        assert choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS) == first


def test_a_budget_is_filled_in_that_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choose._JUDGES, "fisher", lambda config, *_: made_up(config))
    config = dataclasses.replace(CONFIG, plan="budget", budget_mib=14.0)
    planned = resolve_plan(choose.chosen(config, DATA, RANDOM_WEIGHTS))
    assert predict_memory(planned).peak_mib <= 14.0
    blocks = [int(name.split(".")[0]) for name in scheme_of(planned).channels]
    assert blocks == list(range(min(blocks), 18))


@pytest.mark.usefixtures("some_train")
def test_scores_are_computed_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def judge(config: TrainConfig, *_: object) -> choose.Scores:
        asked.append(config.select)
        return made_up(config)

    monkeypatch.setitem(choose._JUDGES, "fisher", judge)
    monkeypatch.setitem(choose._JUDGES, "contribution", judge)
    first = choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS)
    assert "by fisher: the gradients of 64 images at most, some seconds" in caplog.text
    assert len(list(tmp_path.rglob("selection_*.json"))) == 1
    assert choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS) == first
    monkeypatch.setattr(choose, "_KNOWN", {})  # as another process
    assert choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS) == first and asked == ["fisher"]
    others = [
        {"seed": 1},
        {"resolution": 64},
        {"norm": "frozen_bn"},
        {"select": "contribution"},
    ]
    for changes in others:
        choose.chosen(dataclasses.replace(CONFIG, **changes), DATA, RANDOM_WEIGHTS)
    assert len(asked) == 1 + len(others)
    at_64 = dataclasses.replace(CONFIG, select="contribution", resolution=64)
    choose.chosen(at_64, DATA, RANDOM_WEIGHTS)  # one comparison serves every resolution
    rates = dataclasses.replace(
        CONFIG, base_lr=0.1, update_blocks=2, optimizer="sgd", update_layers="dw", precision="bfloat16"
    )
    choose.chosen(rates, DATA, RANDOM_WEIGHTS)
    assert len(asked) == 1 + len(others)
    fewer = dataclasses.replace(DATA, train=classes_of_one_colour(18))
    choose.chosen(CONFIG, fewer, RANDOM_WEIGHTS)
    assert len(asked) == 2 + len(others)


def test_what_is_settled_stays_and_what_needs_no_images_reads_none() -> None:
    none = DataSplits("none", ("a",), None, None, None, 1.0, False)  # type: ignore[arg-type]
    for config in (
        small(method="TinyTL-B"),
        dataclasses.replace(CONFIG, update_scheme="17.pw1"),
        dataclasses.replace(CONFIG, select="last"),
    ):
        found = choose.chosen(config, none)
        assert found == config or (config.select == "last" and scheme_of(found) == last_scheme(config))


@pytest.mark.usefixtures("some_train")
def test_a_choice_by_real_gradients_trains() -> None:
    found = choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS)
    assert scheme_of(found).channels and found.select == "fisher"
    assert choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS) == found
