from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.support.cases import small
from tests.tinytl.training.test_judgements import judgements
from tinytl.data.named_pictures import named_parts
from tinytl.plots.gallery import COLUMNS, LONGEST, plot_gallery, save_galleries
from tinytl.runs.judged_pictures import galleries
from tinytl.training.mistakes import Judged


def test_each_picture_has_what_was_said_of_it() -> None:
    wrong = Judged(0, "val/" + "long" * 20 + ".png", "$red", "_blue", 0.9, 0.05)
    right = Judged(1, "val/1.png", "red", "red", 0.3, 0.3)
    figure = plot_gallery([(wrong, Image.new("RGB", (300, 40))), (right, None)] * COLUMNS, "x")
    assert len(figure.axes) == 2 * COLUMNS
    first, second = figure.axes[:2]
    said, label, file = first.texts[0].get_text().splitlines()
    assert (said, label) == (" _blue 0.90", "not $red 0.05")
    assert len(file) == LONGEST and file.startswith("…") and file.endswith("long.png")
    assert second.texts[0].get_text().splitlines() == ["red 0.30", "val/1.png"]
    assert (len(first.images), len(second.images)) == (1, 0)  # one that does not decode has its text alone


def test_sheets_are_written_if_they_have_pictures(
    make_imagefolder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_imagefolder({"train/red": 3, "train/blue": 3, "val/red": 1, "val/blue": 1})
    data, parts = named_parts(small(dataset="imagefolder", data_dir=str(root), num_classes=None))
    for predicted, names in (([1, 1], ["mistakes.png", "uncertain.png"]), ([0, 1], ["uncertain.png"])):
        shown = galleries(judgements([0, 1], predicted), parts["val"], data.classes)
        paths = save_galleries(shown, parts["val"], tmp_path / names[0], "x")
        assert [path.name for path in paths] == names
        assert all(path.stat().st_size > 5000 for path in paths)
