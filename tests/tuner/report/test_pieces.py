import base64
import io
import re

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from tuner.report.pieces import PICTURE_PX, own_look, picture_html, table_html


def test_a_picture_is_inside_the_page_and_sharp_at_its_width():
    text = picture_html(lambda: Figure(figsize=(7, 4)), 'a "front"')
    data = re.search(r"data:image/png;base64,([^\"]+)", text)[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).width >= PICTURE_PX
    assert 'alt="a &quot;front&quot;"' in text


def test_every_cell_is_text():
    assert "<b>" not in table_html(["<b>"], [["<b>"]]) and "&lt;b&gt;" in table_html(["<b>"], [["<b>"]])


def test_the_users_matplotlib_stays_as_it_is():
    with matplotlib.rc_context({"text.parse_math": True}):
        with own_look():
            assert matplotlib.rcParams["text.parse_math"] is False
        assert matplotlib.rcParams["text.parse_math"] is True
