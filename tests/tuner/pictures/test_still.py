from PIL import Image

from tuner.pictures.still import front_figure, fronts_figure, plot_front, plot_rungs
from tuner.record.trials import Trial


def test_the_front_is_drawn_to_a_png(tmp_path):
    results = [
        Trial(
            name=f"joint-{i:03d}",
            accuracy_top1=0.5 + i / 10,
            peak_memory_mib=10.0 * 2**i,
            epoch_time_s=1.0,
            params={"method": "TinyTL-B"},
        )
        for i in range(4)
    ]
    plot_front(results, "a title", 35.0, tmp_path / "front.png")
    with Image.open(tmp_path / "front.png") as picture:
        assert picture.size == (1050, 675)
        colours = picture.convert("RGB").getcolors(maxcolors=2**16)
    drawn = {colour for _, colour in colours}
    assert (11, 83, 148) in drawn, "the front's blue"
    assert (180, 83, 9) in drawn, "the budget's line"


def test_names_of_dots_that_are_near_do_not_stand_on_each_other():
    near = [
        Trial(
            name=f"joint-{i:03d}",
            accuracy_top1=0.9 + i / 100,
            peak_memory_mib=20.0 + i / 10,
            params={"method": "TinyTL-L+B"},
            source="baseline tinytl_paper" if i == 2 else None,
        )
        for i in range(3)
    ]
    far = Trial(name="far", accuracy_top1=0.1, peak_memory_mib=10.0, params={"method": "FT-Last"})
    (axes,) = front_figure([far, *near], "a title", None).axes
    assert sorted(text.get_text() for text in axes.texts) == [
        "FT-Last",
        "TinyTL-L+B",
        "TinyTL-L+B",
        "tinytl_paper",
    ]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(box.count_overlaps(boxes[:turn]) for turn, box in enumerate(boxes))


def test_the_rungs_have_a_panel_each_and_one_for_the_end(tmp_path):
    trials = [
        Trial(
            name=name,
            params={},
            state="complete" if name in "ab" else "pruned",
            accuracy_top1=0.7 + i / 10 if name in "ab" else 0.1 + i / 10,
            rungs={1: 0.1 + i / 10} | ({3: 0.3 + i / 10} if name in "ab" else {}),
            stopped_at=None if name in "ab" else 1,
            peak_memory_mib=10.0 + i,
        )
        for i, name in enumerate("abcd")
    ]
    plot_rungs(trials, "a title", tmp_path / "rungs.png")
    with Image.open(tmp_path / "rungs.png") as picture:
        assert picture.size == (1530, 570)
        drawn = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=2**16)}
    assert (213, 94, 0) in drawn, "who was stopped"
    assert (0, 114, 178) in drawn, "who went on"


def test_fronts_of_several_studies_have_a_line_each_and_none_without_trials():
    one = [
        Trial(name=f"a-{index}", params={}, accuracy_top1=0.5 + index / 10, peak_memory_mib=20.0 + index)
        for index in range(3)
    ]
    figure = fronts_figure({"a": one, "_b": [], "c": one[:1]})
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.get_lines()] == ["a", "c"]
    assert list(axes.get_lines()[0].get_xdata()) == [20.0, 21.0, 22.0]
