"""Tables in Markdown pages, written from result files so that no figure is typed by hand."""

import re
from collections.abc import Iterable
from typing import Any

Result = dict[str, Any]
"""What a benchmark's JSON holds."""


def cells(*values: object) -> str:
    """Returns a line of a Markdown table."""
    return f"| {' | '.join(map(str, values))} |"


def table(head: Iterable[str], lines: Iterable[str]) -> list[str]:
    """Returns a Markdown table; all columns but the first are numbers."""
    names = list(head)
    return [cells(*names), cells("---", *["---:"] * (len(names) - 1)), *lines]


def source(result: Result) -> list[str]:
    """Returns the line that names the source of the figures."""
    machine = result["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, threads: {machine['threads']}"
    return ["", f"*{where}; torch {result['torch']}; {result['date'][:10]}; `{result['command']}`*"]


def fill(page: str, tables: dict[str, list[str]], name: str = "the page") -> str:
    """Returns the page `name` with these tables between `<!-- table: NAME -->` and `<!-- end -->`.

    Raises:
        ValueError: for a table without a place in the page.
    """
    for title, lines in tables.items():
        place = re.compile(rf"(<!-- table: {re.escape(title)} -->\n).*?(<!-- end -->)", re.DOTALL)
        body = "\n".join(lines) + "\n"
        page, n = place.subn(lambda match, body=body: match[1] + body + match[2], page)
        if n != 1:
            raise ValueError(f"{name} has {n} places for the table {title!r}: it needs one")
    return page
