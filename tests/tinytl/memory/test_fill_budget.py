import dataclasses

import pytest

from tests.support.cases import small
from tinytl.config.plan import UnderFloorError
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory.fill_budget import filled, is_open
from tinytl.memory.predict import predict_memory, resolve_plan, with_scheme
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
        assert planned.micro_batch_size == 1 and planned.plan == "fast"
        scheme = scheme_of(planned)
        asked.append(scheme)
        return sum(part.channels[0] in scheme.channels.get(part.layer.name, ()) for part in order)

    asked: list[object] = []
    found = filled(config, order, peak_of)
    assert scheme_of(found) == scheme_of_parts(order[:13], config)
    assert len(asked) <= 10
    everything = filled(dataclasses.replace(config, budget_mib=1e6), order, peak_of)
    assert scheme_of(everything) == scheme_of_parts(order, config)
    with pytest.raises(UnderFloorError, match=r"budget_mib=0.5 is under the least .* 1.0 MiB with a part of"):
        filled(dataclasses.replace(config, budget_mib=0.5), order, peak_of)


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


def test_a_scheme_that_is_there_stays() -> None:
    config = sparse(30.0, update_scheme="17.pw1 bias:17")
    assert resolve_plan(config).update_scheme == "17.pw1 bias:17"
    other = small(method="TinyTL-B")
    assert with_scheme(other) is other
