from pathlib import Path

import pytest

from tinytl.__main__ import main
from tinytl.commands.import_folder import DESCRIPTION


@pytest.mark.parametrize(
    ("out", "message"), [("out", "manifest.json: no manifest of an"), ("", "--out is empty: name a folder")]
)
def test_mistakes_are_one_line(
    out: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path / out) if out else ""
    assert main(["import", str(tmp_path), "--out", place]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_says_what_it_makes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    assert " ".join(DESCRIPTION.split()) in " ".join(capsys.readouterr().out.split())
