import dataclasses

import pytest

from tests.support.cases import small
from tinytl.config.plan import UnderFloorError, lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory.fill_budget import filled, is_open
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import check_budget, predict_memory, resolve_plan, with_scheme
from tinytl.networks.update_scheme import last_parts, layers_of, scheme_of, scheme_of_parts


def sparse(budget_mib: float, **changes: object) -> TrainConfig:
    return small(method="Sparse", resolution=64, plan="budget", budget_mib=budget_mib, **changes)


def test_a_budget_decides_how_much_trains_only_if_nothing_else_does() -> None:
    assert is_open(sparse(20.0))
    assert not is_open(sparse(20.0, update_blocks=3)) and not is_open(sparse(20.0, channel_ratio=0.5))
    assert not is_open(dataclasses.replace(sparse(20.0), plan="fast", budget_mib=None))


def test_as_many_parts_as_fit() -> None:
    """By a made-up oracle: each part of a convolution takes a MiB."""
    config = sparse(13.0)
    order = last_parts(config)

    def peak_of(planned: TrainConfig) -> float:
        assert planned.plan == "fast"
        scheme = scheme_of(planned)
        asked.append(scheme)
        return sum(part.channels[0] in scheme.channels.get(part.layer.name, ()) for part in order)

    asked: list[object] = []
    found = filled(config, order, 13.0, peak_of)
    assert scheme_of(found) == scheme_of_parts(order[:13], config)
    assert len(asked) <= 2 * (17 + 8)
    assert scheme_of(filled(config, order, 1e6, peak_of)) == scheme_of_parts(order, config)
    with pytest.raises(UnderFloorError, match=r"budget_mib=0.5 is under the least .* 1.0 MiB with a part of"):
        filled(config, order, 0.5, peak_of)


def test_blocks_that_are_too_far_from_the_end_are_left_out() -> None:
    """By a made-up oracle, under which the way back to a block is what takes memory."""
    config = sparse(13.0)
    order = list(reversed(last_parts(config)))  # as if the first block were worth most

    def peak_of(planned: TrainConfig) -> float:
        return 18.0 - min(int(name.split(".")[0]) for name in scheme_of(planned).channels)

    found = scheme_of(filled(config, order, 4.0, peak_of))
    assert sorted(found.channels) == [f"{block}.pw1" for block in (14, 15, 16, 17)]


def test_a_kind_that_needs_too_much_is_left_out_and_others_fill_the_budget() -> None:
    """By a made-up oracle, under which one kind needs more than there is, whatever the order."""
    config = sparse(13.0, update_layers="dw+pw2")
    order = sorted(last_parts(config), key=lambda part: part.layer.kind, reverse=True)  # pw2 first

    def peak_of(planned: TrainConfig) -> float:
        names = scheme_of(planned).channels
        return 20.0 if any(name.endswith("pw2") for name in names) else 10.0 + len(names)

    found = scheme_of(filled(config, order, 13.0, peak_of))
    assert sorted(found.channels) == ["15.dw", "16.dw", "17.dw"]
    with pytest.raises(UnderFloorError, match=r"needs at 64 px: 11\.0 MiB"):
        filled(config, order, 10.5, peak_of)


def test_a_convolution_that_needs_less_than_those_behind_it_is_found() -> None:
    """By a made-up oracle: late convolutions have more weights, and early ones larger maps."""
    config = sparse(13.0, update_layers="pw2", bias_blocks="none")
    needs = {f"{block}.pw2": abs(block - 9) for block in range(1, 18)}

    def peak_of(planned: TrainConfig) -> float:
        return max(needs[name] for name in scheme_of(planned).channels)

    found = scheme_of(filled(config, last_parts(config), 2.0, peak_of))
    assert sorted(found.channels) == ["10.pw2", "11.pw2", "7.pw2", "8.pw2", "9.pw2"]


def test_a_budget_under_the_floor_is_refused_before_images_are_looked_at() -> None:
    check_budget(sparse(14.0, select="fisher"))
    with pytest.raises(UnderFloorError, match="budget_mib=5 is under the least that Sparse"):
        check_budget(sparse(5.0, select="fisher"))


@pytest.mark.parametrize(("norm", "samples"), [("frozen_bn", 1), ("batch_norm", 4)])
def test_a_budget_is_judged_by_the_leanest_way_to_run(norm: str, samples: int) -> None:
    config = sparse(13.0, norm=norm)
    asked: set[tuple[int | None, str]] = set()

    def peak_of(planned: TrainConfig) -> float:
        asked.add((planned.micro_batch_size, planned.checkpoint))
        return 1.0 if planned.checkpoint == "all" else 100.0

    assert scheme_of(filled(config, last_parts(config), 13.0, peak_of)) == scheme_of_parts(
        last_parts(config), config
    )
    assert asked == {(samples, "none"), (4, "all")}


def test_a_budget_is_filled() -> None:
    config = sparse(14.0)
    planned = resolve_plan(config)
    assert planned.update_scheme is not None
    assert predict_memory(planned).peak_mib <= 14.0
    order = last_parts(config)
    n_parts = next(n for n in range(len(order)) if scheme_of_parts(order[:n], config) == scheme_of(planned))
    more = scheme_of_parts(order[: n_parts + 1], config).text(layers_of(config))
    least = dataclasses.replace(planned, plan="fast", budget_mib=None, update_scheme=more, micro_batch_size=1)
    assert predict_memory(dataclasses.replace(least, checkpoint="none", stock_below_kib=0.0)).peak_mib > 14.0


def test_a_budget_under_the_floor_is_one_line() -> None:
    with pytest.raises(
        ConfigError, match="budget_mib=5 is under the least that Sparse with frozen_bn"
    ) as told:
        resolve_plan(sparse(5.0))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"bias_blocks": "none"},
        {"bias_blocks": 0},
        {"update_scheme": "12.pw1"},
        {"update_scheme": "12.pw1 bias:12", "bias_blocks": "none"},
    ],
)
def test_a_scheme_says_whether_biases_train(changes: dict[str, object]) -> None:
    config = lean_plan(small(method="Sparse", **changes))
    assert predict_memory(config).peak_mib == pytest.approx(measure_memory(config), rel=0.02)


def test_a_scheme_that_is_there_stays() -> None:
    config = sparse(30.0, update_scheme="17.pw1 bias:17")
    assert resolve_plan(config).update_scheme == "17.pw1 bias:17"
    other = small(method="TinyTL-B")
    assert with_scheme(other) is other
