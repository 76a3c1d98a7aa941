"""What the documents name is there: files, flags, and the messages that troubleshooting.md explains."""

import ast
import re

import pytest

from tests.support.places import ROOT
from tinytl.__main__ import build_parser as tinytl_parser
from tuner.__main__ import build_parser as tuner_parser
from tuner.config import build_parser as launch_parser

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PACKAGES = ("tinytl", "tuner", "search_spaces")


def texts_of(tree: ast.AST) -> set[str]:
    """Every literal text of a module; what an f-string fills in parts its text."""
    return {
        " ".join(node.value.split())
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.fixture(scope="module")
def texts() -> set[str]:
    files = [ROOT / "launch.py", *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]
    return set().union(*(texts_of(ast.parse(path.read_text())) for path in files))


def messages() -> list[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    return re.findall(r"\*\*`([^`]+)`\*\*", page)


@pytest.mark.parametrize("message", messages())
def test_each_message_that_is_explained_is_printed_somewhere(message, texts):
    def stands(wanted: str) -> bool:
        return any(wanted in text for text in texts)

    for part in message.split("…"):
        words = part.strip(" .,:()").split(" ")
        # One function may write the beginning of a line, and another its end.
        cuts = ((" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words)))
        assert stands(" ".join(words)) or any(stands(a) and stands(b) for a, b in cuts), part


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def flags_of(parser) -> set[str]:
    own = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action.choices, dict):
            own = own.union(*map(flags_of, action.choices.values()))
    return own


COMMANDS = {
    "python launch.py": launch_parser,
    "python -m tuner": tuner_parser,
    "python -m tinytl": tinytl_parser,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_have_only_flags_that_exist(page):
    text = page.read_text().replace("\\\n", " ")
    for start, parser in COMMANDS.items():
        for command in re.findall(re.escape(start) + r"([^`\n]*)", text):
            flags = set(re.findall(r"(?<!\S)(--[a-z][a-z0-9-]+)", command))
            assert flags <= flags_of(parser()), command


def test_the_front_door_is_a_page_or_two():
    assert len((ROOT / "README.md").read_text().splitlines()) < 230
