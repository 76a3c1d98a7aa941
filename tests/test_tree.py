"""The tests mirror the tree, each room says what it is for, and README's map says the same."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.house_map import README, TOP, first_line, rooms, with_map
from tests.support.places import ROOT

PACKAGES = ("tinytl", "tuner", "search_spaces")
ROOMS = [room for top in TOP for room in rooms(top)]

COVERED_BY: Mapping[str, tuple[str, str]] = {
    "tinytl/networks/backbones/backbone.py": (
        "tests/tinytl/networks/backbones/test_named.py",
        "fields without code: what they hold is tested where each backbone is made",
    ),
    "tinytl/data/sets/cars.py": (
        "tests/tinytl/data/sets/test_named_set.py",
        "archives, folders, damage and missing parts stand in tables of all sets; it has no case of its own",
    ),
    "tinytl/export/training/converters.py": (
        "tests/tinytl/export/training/test_operations.py",
        "the register is looked at there as the families fill it",
    ),
    "tinytl/export/training/traced_step.py": (
        "tests/tinytl/export/training/test_translation.py",
        "its steps are translated there and compared with stock's",
    ),
    "tinytl/memory/followed_steps.py": (
        "tests/tinytl/memory/test_predict.py",
        "the cache is seen from predictions; what a GPU is asked for them: test_gpu_scratch",
    ),
    "tinytl/memory/measured_step.py": (
        "tests/tinytl/memory/test_predict.py",
        "predictions are compared there with what it measures, of every kind of step",
    ),
    "tuner/commands/best.py": (
        "tests/tuner/findings/test_best.py",
        "the command prints what is chosen there, as text and as JSON; some flags: test_study_flags",
    ),
    "tuner/commands/compare.py": (
        "tests/tuner/findings/test_compare.py",
        "the command prints and writes what is compared there",
    ),
    "tuner/commands/export.py": (
        "tests/tuner/findings/test_export.py",
        "the command does nothing but export a trial; some flags: test_study_flags",
    ),
    "tuner/commands/finish.py": (
        "tests/tuner/finish/test_finish.py",
        "the command does nothing but finish a study; some flags: test_study_flags",
    ),
    "tuner/finish/card.py": (
        "tests/tuner/finish/test_finish.py",
        "the card is read there, of models that were made",
    ),
    "tuner/finish/wish.py": (
        "tests/tuner/finish/test_model_tracking.py",
        "it holds flags and does nothing; what they do is seen there and in test_finish",
    ),
    "tuner/finish/training.py": (
        "tests/tuner/finish/test_finish.py",
        "its runs are trained, cut off and read again there",
    ),
    "tuner/commands/prune.py": (
        "tests/tuner/study/test_prune.py",
        "the command does nothing but prune a study; some flags: test_study_flags",
    ),
    "tuner/commands/report.py": (
        "tests/tuner/report/test_page.py",
        "the command prints where the page is, and opens it; some flags: test_study_flags",
    ),
    "tuner/commands/status.py": (
        "tests/tuner/findings/test_findings.py",
        "the command prints the findings, as text and as JSON; some flags: test_study_flags",
    ),
    "tuner/commands/sync.py": (
        "tests/tuner/tracking/test_sync.py",
        "the command prints what was written; some flags: test_study_flags",
    ),
    "tuner/search/candidates.py": (
        "tests/tuner/search/test_searcher.py",
        "candidates are found as Ray asks for them: over the budget, run before, given, cut off, unwritten",
    ),
    "tuner/study/delete.py": (
        "tests/tuner/commands/test_delete.py",
        "what is removed, and in which order, is seen from the command, which only asks and prints",
    ),
    "tuner/tracking/model_run.py": (
        "tests/integration/test_finish.py",
        "a model is logged, registered, loaded and served there, in a database that takes seconds to make",
    ),
    "tuner/tracking/children.py": (
        "tests/tuner/tracking/test_sync.py",
        "a run is brought in line there for every state, in a database that takes seconds to make",
    ),
}
"""Modules without a test file of their own: the file that tests them, and why it stands there."""

OF_NO_SINGLE_MODULE = frozenset(
    {
        "tests/test_base_tools.py",
        "tests/test_docs.py",
        "tests/test_examples.py",
        "tests/test_flags_frozen.py",
        "tests/test_private_names.py",
        "tests/test_tree.py",
        "tests/test_upper_bounds.py",
        "tests/tinytl/features/test_runs_that_share.py",
        "tests/tinytl/test_imports.py",
        "tests/tinytl/memory_efficient/test_ddp.py",
        "tests/tinytl/memory_efficient/test_batch_statistics.py",
        "tests/tinytl/memory_efficient/test_generality.py",
        "tests/tinytl/memory_efficient/test_lightning_runs.py",
        "tests/tinytl/memory_efficient/test_peaks.py",
        "tests/tinytl/memory_efficient/test_recorded.py",
        "tests/tinytl/memory_efficient/test_stored_nets.py",
        "tests/tinytl/memory_efficient/test_transformers_nets.py",
        "tests/tinytl/memory_efficient/test_user_nets.py",
        "tests/tuner/test_imports.py",
        "tests/tuner/test_launch.py",
    }
)
"""Test files that stand at a mirrored place and prove what several modules promise together."""


OF_WHOLE_THINGS = frozenset({"docker", "gpu", "integration"})
"""Folders of tests that mirror nothing: containers, what a GPU does, whole studies."""


def modules() -> set[str]:
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
    return {file.relative_to(ROOT).as_posix() for file in files if file.name != "__init__.py"}


def mirrored_tests() -> set[str]:
    files = (file.relative_to(ROOT) for file in (ROOT / "tests").rglob("test_*.py"))
    return {file.as_posix() for file in files if file.parts[1] not in OF_WHOLE_THINGS}


def module_of(test: str) -> Path:
    path = Path(test).relative_to("tests")
    return path.with_name(path.name.removeprefix("test_"))


def place_of_test(module: str) -> str:
    path = Path(module)
    return (Path("tests") / path.parent / f"test_{path.name}").as_posix()


def names_in(file: str) -> set[str]:
    """Dotted names that a test file imports, and the texts in it."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names


def test_each_module_has_a_test_file_or_one_that_covers_it():
    tests = mirrored_tests()
    assert {module for module in modules() - COVERED_BY.keys() if place_of_test(module) not in tests} == set()


def test_each_test_file_at_a_mirrored_place_has_its_module():
    without = {test for test in mirrored_tests() if not (ROOT / module_of(test)).is_file()}
    assert without == OF_NO_SINGLE_MODULE


@pytest.mark.parametrize("module", COVERED_BY)
def test_what_another_file_tests_is_named_there(module):
    test, why = COVERED_BY[module]
    assert (ROOT / module).is_file()
    assert not (ROOT / place_of_test(module)).exists()
    assert names_in(test) & {module.removesuffix(".py").replace("/", "."), Path(module).stem}
    assert why


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.relative_to(ROOT).as_posix())
def test_each_room_says_in_a_line_what_it_is_for(room):
    file = room / "__init__.py"
    line = first_line(file)
    assert 20 < len(line) <= 107
    assert line[0].isupper()
    assert line.endswith(".")
    below = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[1:2]
    assert below in ([], [""])


def test_what_the_map_lists_is_there():
    assert [top for top in TOP if not (ROOT / top).exists()] == []


def test_the_map_of_the_front_door_is_what_the_rooms_say():
    page = README.read_text()
    assert page == with_map(page), "write it with: python -m tests.support.house_map --write"
