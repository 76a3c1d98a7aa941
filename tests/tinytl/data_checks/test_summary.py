from tinytl.data_checks.findings import Finding
from tinytl.data_checks.summary import MOST_LINES, summary


def _dark(n: int) -> list[Finding]:
    return [
        Finding(kind="dark", split="train", label="a", file=f"a/{i}.png", number=i, reason="it is dark")
        for i in range(n)
    ]


IMBALANCE = Finding(kind="imbalance", split="train", label="a", number=4.0, reason="a has 4 times as many")


def test_a_few_of_each_kind_are_shown_the_gravest_kind_first() -> None:
    text = summary([*_dark(36), IMBALANCE], "f.csv").splitlines()
    assert text[:3] == ["Imbalance", "  a has 4 times as many", ""]
    assert text[3:5] == ["Dark pictures: 36", "  a/0.png  it is dark"]
    assert text[-1] == f"  and {36 - MOST_LINES} more: f.csv" and len(text) == 5 + MOST_LINES


def test_without_a_file_it_says_how_to_get_one() -> None:
    assert summary(_dark(MOST_LINES + 1), None).endswith("and 1 more: --csv FILE writes all")
    assert "more" not in summary(_dark(MOST_LINES), None)
    assert summary([], None) == "Nothing was found."


def test_lines_are_aligned_and_names_cannot_break_them() -> None:
    long = Finding(
        kind="dark", split="train", label="a", file="a/long\nname.png", number=0, reason="it is dark"
    )
    lines = summary([*_dark(1), long], None).splitlines()
    assert lines[1:] == ["  a/0.png           it is dark", "  a/long\\nname.png  it is dark"]
