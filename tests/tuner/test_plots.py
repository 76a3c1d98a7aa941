from PIL import Image

from tuner.plots import plot_front
from tuner.results import TrialResult


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
