import csv
import json
from dataclasses import replace

import pytest
from PIL import Image

from tests.support.synthetic_study import write_study
from tinytl.errors import ConfigError
from tuner.findings.compare import compare
from tuner.record.reading import open_study
from tuner.report.comparison import DATA, PAGE, PICTURE, TABLE, comparison_html, write_comparison


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, trials in (("few", 4), ("many", 12)):
        write_study(folder, name, trials, 3, judged=True)
    return compare([open_study(name, str(folder)) for name in ("few", "many")])


def test_a_folder_gets_a_page_a_picture_and_tables(comparison, tmp_path):
    files = write_comparison(comparison, tmp_path / "new" / "folder")
    assert [file.name for file in files] == [PAGE, PICTURE, TABLE, DATA]
    page, picture, table, data = files
    text = page.read_text().rpartition("<noscript>")[0]  # what follows is plotly
    assert text.count("<figure") == 2 and "http://" not in text and "https://" not in text
    for words in ("The best under each budget", "python -m tuner report few", "user_report", " ± "):
        assert words in text
    with Image.open(picture) as image:
        assert image.width > 500
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(comparison.budgets_mib)
    assert json.loads(data.read_text()) == json.loads(json.dumps(comparison.to_json()))


def test_names_are_no_markup(comparison, tmp_path):
    bad = [replace(c, label="<script>") for c in comparison.studies]
    text = comparison_html(replace(comparison, studies=bad))
    assert "<script" not in text and "&lt;script&gt;" in text
    page = write_comparison(replace(comparison, studies=bad), tmp_path)[0].read_text()
    assert page.count("<script>") == 2, "plotly's and the page's own"


def test_a_folder_that_cannot_be_made_is_one_line(comparison, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file"):
        write_comparison(comparison, tmp_path / "file" / "below")
