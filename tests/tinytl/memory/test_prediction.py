from tinytl.memory.prediction import WORKSPACES, MemoryPrediction

STEP = MemoryPrediction(
    peak_mib=10.0, parts_mib={"parameters": 4.0, "temporary": 6.0}, peak_at="features.2 backward"
)


def test_the_parts_add_up_with_the_workspaces_of_a_gpu() -> None:
    more = STEP.with_workspaces(3.0)
    assert more.peak_mib == sum(more.parts_mib.values()) == 13.0
    assert more.parts_mib[WORKSPACES] == 3.0


def test_it_says_what_sets_the_peak() -> None:
    assert STEP.what_sets_it() == "at features.2 backward, most of it temporary (6.0 MiB)"
