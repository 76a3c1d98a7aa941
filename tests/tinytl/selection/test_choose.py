import dataclasses
from pathlib import Path

import pytest

from tests.support.cases import small
from tests.support.colours import classes_of_one_colour, colours
from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import DataSplits
from tinytl.memory.predict import predict_memory, resolve_plan
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS
from tinytl.networks.update_scheme import (
    bytes_of,
    candidates,
    last_scheme,
    parts_of_scheme,
    scheme_of,
)
from tinytl.selection import choose

CONFIG = small(method="Sparse", norm="group_norm", select="fisher")
DATA = colours(24, 12)


@pytest.fixture(autouse=True)
def nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choose, "_KNOWN", {})


def made_up(config: TrainConfig) -> choose.Scores:
    """The deeper, the more per byte; within a layer the last channel is worth most."""
    found = {}
    for layer in candidates(config):
        each = layer.bytes_of(1, config)
        found[layer.name] = [each * (layer.block + channel / 1000) for channel in range(layer.channels)]
    return found


def test_parts_come_by_worth_per_byte() -> None:
    order = choose.by_worth(made_up(CONFIG), CONFIG)
    blocks = [part.layer.block for part in order]
    assert blocks == sorted(blocks, reverse=True)
    assert order[0].channels == tuple(range(159, 139, -1))
    assert len({(part.layer.name, channel) for part in order for channel in part.channels}) == sum(
        layer.channels for layer in candidates(CONFIG)
    )


def test_it_takes_the_room_that_the_last_blocks_would_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choose._JUDGES, "fisher", lambda config, *_: made_up(config))
    config = dataclasses.replace(CONFIG, update_blocks=3, channel_ratio=0.5)
    found = choose.chosen(config, DATA, RANDOM_WEIGHTS)
    # One and a half convolutions of 160 channels: the last one whole, the best channels of the one before.
    scheme = scheme_of(found)
    assert scheme.channels == {"16.pw1": tuple(range(80, 160)), "17.pw1": tuple(range(160))}
    assert scheme.bias_from == 16
    taken, room = (bytes_of(parts_of_scheme(s, config), config) for s in (scheme, last_scheme(config)))
    assert taken == room


def test_a_budget_is_filled_in_that_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choose._JUDGES, "fisher", lambda config, *_: made_up(config))
    config = dataclasses.replace(CONFIG, plan="budget", budget_mib=14.0)
    planned = resolve_plan(choose.chosen(config, DATA, RANDOM_WEIGHTS))
    assert predict_memory(planned).peak_mib <= 14.0
    blocks = [int(name.split(".")[0]) for name in scheme_of(planned).channels]
    assert blocks == list(range(min(blocks), 18))


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
    assert "by fisher: the gradients of 64 images, some seconds" in caplog.text
    assert len(list(tmp_path.rglob("selection_*.json"))) == 1
    assert choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS) == first
    monkeypatch.setattr(choose, "_KNOWN", {})  # as another process
    assert choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS) == first and asked == ["fisher"]
    others = [
        {"seed": 1},
        {"resolution": 64},
        {"norm": "frozen_bn"},
        {"update_layers": "dw"},
        {"select": "contribution"},
    ]
    for changes in others:
        choose.chosen(dataclasses.replace(CONFIG, **changes), DATA, RANDOM_WEIGHTS)
    assert len(asked) == 1 + len(others)
    at_64 = dataclasses.replace(CONFIG, select="contribution", resolution=64)
    choose.chosen(at_64, DATA, RANDOM_WEIGHTS)  # one comparison serves every resolution
    rates = dataclasses.replace(CONFIG, base_lr=0.1, update_blocks=2, optimizer="sgd")
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


def test_a_choice_by_real_gradients_trains() -> None:
    found = choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS)
    assert scheme_of(found).channels and found.select == "fisher"
    assert choose.chosen(CONFIG, DATA, RANDOM_WEIGHTS) == found
