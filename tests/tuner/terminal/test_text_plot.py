from tests.support.counted import Counted, comparisons_of
from tuner.record.trials import Trial
from tuner.terminal.text_plot import text_plot


def result(trial, accuracy, memory):
    return Trial(name=trial, accuracy_top1=accuracy, peak_memory_mib=memory, epoch_time_s=1.0, params={})


POINTS = [result("a", 0.5, 10.0), result("b", 0.9, 30.0), result("c", 0.5, 30.0)]


def test_the_most_accurate_stand_above_and_the_smallest_on_the_left():
    lines = text_plot(POINTS, width=26, height=5, ascii_only=True).plain.splitlines()
    assert lines == [
        "0.900                    o",
        "                          ",
        "                          ",
        "0.500 o                  .",
        "      10.0        30.0 MiB",
    ]


def test_one_result_is_a_point():
    text = text_plot(POINTS[:1], width=26, height=4, ascii_only=False).plain
    assert text.count("●") == 1 and len(text.splitlines()) == 4


def test_a_plot_looks_at_each_result_a_few_times_however_many_there_are():
    points = [result(f"{i}", Counted(i * 7 % 1000), Counted(i * 11 % 1000)) for i in range(1000)]
    assert comparisons_of(lambda: text_plot(points, 40, 8, ascii_only=True)) < 30 * len(points)
