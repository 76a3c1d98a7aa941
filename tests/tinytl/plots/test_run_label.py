from collections.abc import Callable
from pathlib import Path

from tinytl.plots.run_label import MOST_CHARACTERS, differing_fields, run_labels, shared_title, shorten
from tinytl.runs.record import RunRecord, read_run

MakeRun = Callable[..., Path]


def _read(*folders: Path) -> list[RunRecord]:
    return [read_run(folder) for folder in folders]


def test_labels_name_what_differs(make_run: MakeRun) -> None:
    runs = _read(
        make_run("a", method="TinyTL-B", seed=0),
        make_run("b", method="TinyTL-B", seed=1),
        make_run("c", method="FT-Last", seed=0),
    )
    assert run_labels(runs) == ["TinyTL-B, seed 0", "TinyTL-B, seed 1", "FT-Last, seed 0"]
    title = shared_title([run.config for run in runs])
    assert title == "digits, efficientnet_lite0, frozen_bn, 96 px, batch 8"


def test_the_method_comes_first_and_floats_are_short(make_run: MakeRun) -> None:
    runs = _read(
        make_run("a", backbone="mobilenet_v2", method="FT-Last", base_lr=1e-3),
        make_run("b", method="TinyTL-B", base_lr=3e-4, downsample_ratio=None),
    )
    assert run_labels(runs) == [
        "FT-Last, mobilenet_v2, downsample_ratio 2, base_lr 0.001",
        "TinyTL-B, efficientnet_lite0, downsample_ratio unset, base_lr 0.0003",
    ]


def test_what_a_plan_sets_is_named_only_where_nothing_else_differs(make_run: MakeRun) -> None:
    a = read_run(make_run("a", micro_batch_size=8, resolution=64)).config
    b = read_run(make_run("b", micro_batch_size=4, resolution=96)).config
    assert differing_fields([a, b]) == ["resolution"]
    assert differing_fields([a, dict(a) | {"micro_batch_size": 2}]) == ["micro_batch_size"]


def test_a_field_that_an_older_run_lacks_has_its_default(make_run: MakeRun) -> None:
    new = dict(read_run(make_run("a")).config)
    old = {name: value for name, value in new.items() if name != "dropout"}
    assert differing_fields([new, old]) == []
    assert differing_fields([new | {"dropout": 0.5}, old]) == ["dropout"]


def test_alike_or_unknown_runs_go_by_their_folders(make_run: MakeRun) -> None:
    runs = _read(make_run("x/run"), make_run("y/run"), make_run("z", finished=False))
    assert run_labels(runs) == ["x/run", "y/run", "z"]
    twins = _read(make_run("p", seed=0), make_run("q", seed=0), make_run("r", seed=1))
    assert run_labels(twins) == ["seed 0 (p)", "seed 0 (q)", "seed 1"]


def test_long_names_lose_their_middle_and_stay_different(make_run: MakeRun) -> None:
    middle = "m" * 60
    names = [f"{'a' * 60}{i}{middle}" for i in range(3)]
    labels = run_labels(_read(*(make_run(name, finished=False) for name in names)))
    assert len(set(labels)) == 3
    assert all(len(label) <= MOST_CHARACTERS + 3 for label in labels)
    assert shorten("abcdefgh", 5) == "ab…gh"
