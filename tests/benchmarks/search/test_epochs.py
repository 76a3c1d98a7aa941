import pytest

from benchmarks.search import peers as search_peers
from benchmarks.search.epochs import (
    GIVES_UP,
    STOCK,
    Ours,
    competitors,
    quartiles,
    search,
    stock_history,
    summary,
)
from benchmarks.search.epochs_figure import plot_search_epochs
from benchmarks.search.simulated import History, Table, read_rows, simulate
from benchmarks.search.table import configurations, table_space
from tinytl.errors import ConfigError

METHODS = ("FT-Last", "TinyTL-B", "TinyTL-L", "TinyTL-L+B", "FT-Norm+Last", "FT-Full")


@pytest.fixture(scope="module")
def made_up() -> Table:
    """Later methods and larger rates take and give more; curves rise at one speed."""
    rows = []
    for values in configurations():
        rank = METHODS.index(values["method"])
        end = 0.5 + 0.05 * rank + 10 * values["base_lr"] - 0.001 * values["batch_size"]
        memory = 10.0 + 5 * rank + values["resolution"] / 8
        curve = [end * epoch / 8 for epoch in range(1, 9)]
        rows.append({"values": values, "accuracy_top1": curve, "peak_memory_mib": memory})
    return read_rows(rows)


def history(*steps: tuple[int, float]) -> History:
    return History(steps, epochs=999, started=1, complete=1)


def test_quartiles_do_not_average_with_never():
    assert quartiles([1.0, 2.0, 3.0, 4.0, float("inf")]) == [2.0, 3.0, 4.0]
    assert quartiles([1.0, float("inf"), float("inf")]) == [None, None, None]
    assert quartiles([3.0, 1.0]) == [3.0, 3.0, 3.0]


def test_needed_epochs_are_held_against_the_whole_budget_and_against_stocks_own(made_up):
    stock = [history((8, 1.0), (256, 2.0)), history((128, 3.0))]
    mine = [history((64, 2.0)), history((1024, 2.9))]
    row = summary("mine", mine, stock, made_up, ablation=False)
    assert row["epochs_needed"] == [64, None]
    assert row["never"] == 1
    assert row["of_whole_budget"] == [None, None, None]
    row = summary("mine", mine[:1], stock[:1], made_up, ablation=False)
    assert row["of_whole_budget"][1] == 64 / 512
    assert row["of_stock_first_reach"][1] == 64 / 256
    assert row["curve"]["epochs"][-1] == 512
    assert row["curve"]["quartiles"][-1][1] == pytest.approx(2 / made_up.hypervolume)


def test_stock_trains_every_trial_to_its_end_and_repeats(made_up):
    stock = stock_history(made_up, 0)
    assert (stock.epochs, stock.started, stock.complete) == (512, 64, 64)
    assert stock_history(made_up, 0) == stock
    assert stock_history(made_up, 1) != stock


def test_a_search_goes_on_beyond_the_budget_only_while_the_goal_is_ahead(made_up):
    stock = next(c for c in competitors() if c.name == "random")
    assert search(stock, made_up, 0, 0.0).epochs == 512
    assert search(stock, made_up, 0, 2 * made_up.hypervolume).epochs == GIVES_UP * 512


def test_names_differ_and_stock_stands_first():
    names = [competitor.name for competitor in competitors()]
    assert len(set(names)) == len(names)
    assert names[0] == STOCK


def test_ours_runs_nothing_twice_and_spends_less_on_what_it_stops(made_up):
    class Listed(Ours):
        def next_trial(self):
            found = super().next_trial()
            tried.append(str(found[1]))
            return found

    tried: list[str] = []
    stopping = simulate(Listed(made_up, 0, sampler="random"), made_up, workers=2, epochs=200)
    assert len(set(tried)) == len(tried)
    assert stopping.started > 25 > stopping.complete
    everything = simulate(Ours(made_up, 0, sampler="random", rule="none"), made_up, workers=2, epochs=9999)
    assert everything.complete == len(made_up.rows)
    assert everything.at(9999) == pytest.approx(made_up.hypervolume)


def test_moasha_is_missed_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(search_peers, "PEERS", tmp_path)
    with pytest.raises(ConfigError, match="make peers") as error:
        search_peers.Moasha(table_space(), 0, 8)
    assert "\n" not in str(error.value)


@pytest.mark.slow  # needs `make peers`
@pytest.mark.parametrize("mended", [False, True])
def test_moasha_stops_trials_and_repeats(made_up, mended):
    def run(seed: int) -> History:
        peer = search_peers.Moasha(table_space(), seed, made_up.epochs, mended=mended)
        return simulate(peer, made_up, workers=2, epochs=200)

    assert run(0) == run(0) != run(1)
    assert run(0).started > 2 * run(0).complete


def test_figure(made_up, tmp_path):
    rows = [
        summary(name, [history((64, 50.0))], [history((64, 50.0))], made_up, ablation=False)
        for name in (STOCK, "ours")
    ]
    settings = {
        "goal_of_table": [0.9] * 3,
        "budget_epochs": 512,
        "configurations": 256,
        "seeds": 1,
        "workers": 2,
    }
    path = tmp_path / "figure.png"
    plot_search_epochs({"settings": settings, "rows": rows}, path)
    assert path.stat().st_size > 10_000
