from PIL import Image

from tuner.pictures.still import plot_front, plot_rungs
from tuner.record.results import RungRecord, TrialResult


def test_the_front_is_drawn_to_a_png(tmp_path):
    results = [
        TrialResult(
            trial=f"joint-{i:03d}",
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


def test_the_rungs_have_a_panel_each_and_one_for_the_end(tmp_path):
    records = [
        RungRecord(trial=name, epoch=epoch, accuracy_top1=0.1 * epoch + i / 10, peak_memory_mib=10.0 + i)
        for epoch, names in ((1, "abcd"), (3, "ab"))
        for i, name in enumerate(names)
    ]
    complete = [
        TrialResult(trial="a", accuracy_top1=0.7, peak_memory_mib=10.0, epoch_time_s=1.0, params={}),
        TrialResult(trial="b", accuracy_top1=0.8, peak_memory_mib=11.0, epoch_time_s=1.0, params={}),
    ]
    plot_rungs(records, {"c": 1, "d": 1}, complete, "a title", tmp_path / "rungs.png")
    with Image.open(tmp_path / "rungs.png") as picture:
        assert picture.size == (1530, 570)
        drawn = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=2**16)}
    assert (213, 94, 0) in drawn, "who was stopped"
    assert (0, 114, 178) in drawn, "who went on"
