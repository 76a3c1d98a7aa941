import csv
import json
from pathlib import Path

import pytest

from tinytl.data_checks.findings import Finding
from tinytl.data_checks.written import COLUMNS, as_json, findings_in, write_csv
from tinytl.errors import ConfigError

ODD = 'train/a/l\udcfctin, "x"\n.png'
FINDINGS = [
    Finding(kind="dark", split="train", label="a", file=ODD, number=1.23456789, reason="it is dark"),
    Finding(
        kind="leak", split="val", label="b", file="v.png", compared_with="t.png", number=0.0, reason="same"
    ),
    Finding(kind="few_pictures", split="train", label="b", number=3.0, reason="b has 3"),
]


def test_the_table_has_a_line_for_each_with_names_of_any_bytes(tmp_path: Path) -> None:
    write_csv(FINDINGS, tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(newline="", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["kind"] for row in rows] == ["leak", "few_pictures", "dark"]
    assert rows[2]["file"] == ODD and rows[2]["number"] == "1.23457" and rows[0]["compared_with"] == "t.png"


def test_json_has_all_of_it() -> None:
    content = json.loads(as_json("pictures: 3", 3, FINDINGS))
    assert content["counts"] == {"leak": 1, "few_pictures": 1, "dark": 1}
    assert (content["data"], content["images"], len(content["findings"])) == ("pictures: 3", 3, 3)
    assert content["findings"][2]["file"] == ODD and content["findings"][0]["class"] == "b"


def test_what_was_written_is_read_back() -> None:
    content = json.loads(as_json("pictures: 3", 3, FINDINGS))
    assert sorted(findings_in(content), key=repr) == sorted(FINDINGS, key=repr)
    content["findings"][0]["kind"] = "none of ours"
    with pytest.raises(ValueError, match="none of ours"):
        findings_in(content)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"f.csv cannot be written \(No such file or directory\)"):
        write_csv(FINDINGS, tmp_path / "none" / "f.csv")
