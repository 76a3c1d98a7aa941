import base64
import io

import numpy as np
from PIL import Image

from tests.support.checked_pictures import patterned
from tinytl.data.named_pictures import NamedPictures
from tinytl.data.splits import ImageFiles, ImageSet
from tuner.report import thumbnails
from tuner.report.thumbnails import MOST_BYTES, SIDE, Thumbnails


def parts_of(images) -> dict[str, NamedPictures]:
    names = np.array([b"val/%d" % row for row in range(len(images))])
    return {"val": NamedPictures(ImageSet(images, np.zeros(len(images), np.int64)), names)}


def decoded(source: str) -> Image.Image:
    head, _, data = source.partition(",")
    assert head == "data:image/jpeg;base64"
    content = base64.b64decode(data)
    assert len(content) <= MOST_BYTES
    return Image.open(io.BytesIO(content))


def test_a_thumbnail_is_small_and_a_tiny_picture_keeps_its_size():
    large = np.stack([np.asarray(patterned(seed, (300, 200))) for seed in range(2)])
    found = Thumbnails(parts_of(large)).of("val/1")
    assert decoded(found["src"]).size == (SIDE, round(SIDE * 200 / 300)) and found["tiny"] is False
    found = Thumbnails(parts_of(large[:, :8, :8])).of("val/0")
    assert decoded(found["src"]).size == (8, 8) and found["tiny"] is True


def test_a_page_has_so_many_and_not_more(monkeypatch):
    monkeypatch.setattr(thumbnails, "MOST_THUMBNAILS", 2)
    found = Thumbnails(parts_of(np.zeros((4, 8, 8, 3), np.uint8)))
    assert [found.of(file) is None for file in ("val/0", "val/9", "val/0", "val/1", "val/0")] == [
        False,
        True,  # is not there, so it takes no place
        False,
        True,
        True,
    ]


def test_what_is_not_there_or_does_not_decode_has_none(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    files = ImageFiles(str(tmp_path), np.array([b"a.png", b"b.png"]), np.zeros(2, np.int64), 8)
    found = Thumbnails({"train": NamedPictures(files, files.names)})
    assert [found.of(name) for name in ("a.png", "b.png", "c.png")] == [None, None, None]
    assert Thumbnails({}).of("a.png") is None
