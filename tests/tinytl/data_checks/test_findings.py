from tinytl.data_checks.findings import KINDS, Finding, by_kind


def _finding(kind: str, number: float) -> Finding:
    return Finding(kind=kind, split="train", label="a", number=number, reason="why")


def test_the_gravest_kind_is_first_and_order_within_a_kind_stays() -> None:
    findings = [_finding("dark", 2), _finding("leak", 0), _finding("dark", 1)]
    groups = by_kind(findings)
    assert list(groups) == ["leak", "dark"] and [f.number for f in groups["dark"]] == [2, 1]
    assert list(by_kind([])) == []
    assert list(by_kind([_finding(kind, 0) for kind in reversed(KINDS)])) == list(KINDS)
