import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from tuner.record.trials import Trial
from tuner.report.parallel import LONGEST_TICK, parallel_figure, quarters

DISTRIBUTIONS = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "norm": CategoricalDistribution(["batch_norm", "a_very_long_name_of_a_norm"]),
}


@pytest.fixture
def figure():
    """Eight trials, the odd ones without a norm; the last is the best."""
    trials = [
        Trial(
            name=f"a-{i}",
            params={"lr": 10.0 ** (-i % 4)} | ({} if i % 2 else {"norm": ["batch_norm", "<i>"][i % 4 // 2]}),
            accuracy_top1=0.1 * i,
            peak_memory_mib=10.0 + i,
        )
        for i in range(8)
    ]
    return parallel_figure(trials, ["lr", "norm"], DISTRIBUTIONS)


def test_every_trial_is_a_line_over_its_parameters_accuracy_and_memory(figure):
    lines = figure.data[:4]
    names = [[name for name in line.customdata if name] for line in lines]
    assert [sorted(set(own)) for own in names] == [[f"a-{i}", f"a-{i + 1}"] for i in (0, 2, 4, 6)]
    best = lines[3]
    assert list(best.x[:5]) == [0, 1, 2, 3, None] and best.y[0] == pytest.approx(6 / 7, abs=1e-3)
    assert list(figure.layout.xaxis.ticktext) == ["accuracy", "MiB", "lr", "norm"]


def test_a_trial_without_a_parameter_passes_below_its_values_at_a_dash(figure):
    line = figure.data[3]
    even, odd = line.y[3], line.y[8]
    assert line.customdata[3] == "a-6" and 0 <= even <= 1
    assert line.customdata[8] == "a-7" and odd < 0
    ticks = {(x, text) for x, text in zip(figure.data[4].x, figure.data[4].text, strict=True)}
    assert (3, "-") in ticks and (2, "-") not in ticks
    assert (3, "&lt;i&gt;") in ticks, "text of users is no markup"
    assert all(len(text) <= LONGEST_TICK for _, text in ticks if "&" not in text)


def test_choices_leave_out_the_worse_and_a_trace_waits_for_the_bold_line(figure):
    assert quarters() == [("all", []), ("the better half", [0, 1]), ("the best quarter", [0, 1, 2])]
    assert list(figure.data[-1].x or []) == [] and len(figure.data) == 6


def test_equal_values_and_few_trials_need_no_special_case():
    trial = Trial(name="a", params={"lr": 0.1}, accuracy_top1=0.5, peak_memory_mib=1.0)
    figure = parallel_figure([trial], ["lr"], DISTRIBUTIONS)
    assert [y for line in figure.data[:4] for y in line.y if y is not None] == [0.5, 0.5, 0.5]
