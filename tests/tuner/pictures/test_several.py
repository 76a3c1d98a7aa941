import math

from tuner.pictures.interactive import TIME_COST
from tuner.pictures.several import fronts_figure
from tuner.record.trials import Trial


def trial(name, accuracy, mib, seconds, **known):
    return Trial(
        name=name, params={}, accuracy_top1=accuracy, peak_memory_mib=mib, epoch_time_s=seconds, **known
    )


STUDIES = {
    "one<b>": [
        trial("a-0", 0.5, 10.0, 9.0, standard_error=0.02, source="baseline user_report"),
        trial("a-1", 0.4, 20.0, 1.0),
    ],
    "two": [trial("b-0", 0.6, 30.0, math.nan)],
    "none": [],
}


def test_each_study_has_dots_baselines_and_a_front_with_errors():
    dots, baselines, front, *others = fronts_figure(STUDIES).data
    assert list(dots.customdata) == ["a-0", "a-1"] and list(baselines.customdata) == ["a-0"]
    assert list(front.customdata) == ["a-0"] and list(front.error_y.array) == [0.02]
    assert front.name == "one&lt;b&gt;" and front.hovertext[0].startswith(
        "<b>a-0 (user_report)</b> of one&lt;b&gt;<br>accuracy 0.500 ± 0.020"
    )
    assert [trace.showlegend for trace in others[:3]] == [False, False, True]


def test_over_time_the_front_is_another_one_and_what_has_no_time_is_left_out():
    figure = fronts_figure(STUDIES, TIME_COST)
    assert list(figure.data[2].customdata) == ["a-1", "a-0"]
    assert [list(trace.x) for trace in figure.data[3:6]] == [[], [], []]
