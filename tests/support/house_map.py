"""README's map of the house, made from each room's docstring.

`python -m tests.support.house_map --write` writes it.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.places import ROOT

README = ROOT / "README.md"
START, END = "<!-- map -->\n", "<!-- end -->\n"

# From top to bottom. Those without a text have a docstring; the others are no packages.
TOP: dict[str, str | None] = {
    "launch.py": None,
    "search_spaces": None,
    "tuner": None,
    "tinytl": None,
    "tests": "The tree mirrored, one test file per module; `integration/` runs whole studies, `gpu/` a GPU.",
    "benchmarks": "What the documents quote: run by hand, results kept in `results/`.",
    "examples": "The settings of the reports as commands; a study as a notebook; gradient checkpoints.",
    "docker": "One image, `compose.yaml`, start-up scripts for use without Docker, too; Kubernetes, Slurm.",
    "docs": "How and why (`architecture.md`), and a page for each subject.",
}


def first_line(file: Path) -> str:
    """The first line of a file's docstring; empty if it has none."""
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]


def rooms(top: str) -> Iterator[Path]:
    """Each package in a folder of the house, the folder itself included, in the order of a tree."""
    return (file.parent for file in sorted((ROOT / top).rglob("__init__.py"), key=lambda file: file.parent))


def house_map() -> str:
    """A Markdown list, an item per room: its name, and the first line of its docstring."""
    return "".join(f"{line}\n" for top, text in TOP.items() for line in _lines(top, text))


def with_map(page: str) -> str:
    """A page whose map is today's.

    Raises:
        ValueError: the page has no place for a map, which the two comments mark.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(
            f"README.md has no {START.strip()} ... {END.strip()}: put the two lines where the map belongs"
        )
    return before + start + house_map() + end + after


def _lines(top: str, text: str | None) -> Iterator[str]:
    path = ROOT / top
    if path.is_file():
        yield f"- `{top}`: {first_line(path)}"
        return
    if text is not None:
        yield f"- `{top}/`: {text}"
    for room in rooms(top):
        indent = "  " * len(room.relative_to(path).parts)
        yield f"{indent}- `{room.name}/`: {first_line(room / '__init__.py')}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        README.write_text(with_map(README.read_text()))
    else:
        print(house_map(), end="")
