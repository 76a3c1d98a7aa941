"""Findings as a page with thumbnails. It loads nothing from elsewhere, and its size is bounded."""

import base64
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from tinytl.data_checks.findings import KINDS, Finding, by_kind
from tinytl.data_checks.thumbnails import MOST_BYTES
from tinytl.errors import without_controls
from tinytl.files import write_whole

MOST_OF_A_KIND = 100
"""Findings of a kind on the page; the table has the others."""
MOST_THUMBNAILS = 1500
"""On the page: 4 KiB each, and a third more as text, so a page stays under 10 MiB."""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  color: #1b1b1b; background: #fff; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { color: #555; margin: .2rem 0 1rem; } nav a { margin-right: 1.2rem; white-space: nowrap; }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); }
li { border: 1px solid #ddd; border-radius: 6px; padding: .7rem; min-width: 0; overflow-wrap: anywhere; }
li p { margin: .4rem 0 0; } figure { display: inline-block; margin: 0 .6rem 0 0; vertical-align: top; }
img { background: #eee; border: 1px solid #ddd; display: block; max-height: 96px; max-width: 100%;
  object-fit: contain; image-rendering: auto; }
code { font: 13px ui-monospace, monospace; }
@media (max-width: 30rem) { body { margin: 1rem auto; } ul { grid-template-columns: 1fr; } }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e6e6e6; } p { color: #aaa; }
  li, img { border-color: #3a3d44; } img { background: #24272d; } a { color: #8ab4f8; } }
"""
Thumbnail = Callable[[str], bytes | None]


def write_page(account: str, findings: Sequence[Finding], thumbnail: Thumbnail, path: Path) -> None:
    """Writes the page, whole or not at all.

    Args:
        account: what was checked, a line.
        findings: all; the first of each kind are shown.
        thumbnail: returns a JPEG of the picture of a name that a finding has, of MOST_BYTES at most, or None.
        path: of the page.

    Raises:
        ConfigError: if the file cannot be written.
    """
    write_whole(path, _page(account, findings, thumbnail))


def _page(account: str, findings: Sequence[Finding], thumbnail: Thumbnail) -> str:
    groups = by_kind(findings)
    images = _Thumbnails(thumbnail)
    sections = "".join(_section(kind, group, images) for kind, group in groups.items())
    links = "".join(
        f'<a href="#{kind}">{escape(KINDS[kind])} ({len(group):,})</a> ' for kind, group in groups.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Data check</title><style>{STYLE}</style></head><body>"
        f"<h1>What may be wrong with the data</h1><p>{_text(account)}</p>"
        f"<nav>{links or 'Nothing was found.'}</nav>{sections}</body></html>\n"
    )


class _Thumbnails:
    """Images for the page, each picture once decoded, until there are MOST_THUMBNAILS."""

    def __init__(self, make: Thumbnail) -> None:
        self.make = make
        self.left = MOST_THUMBNAILS

    def tag(self, file: str) -> str:
        if not self.left:
            return ""
        content = self.make(file)
        if content is None:
            return ""
        assert len(content) <= MOST_BYTES
        self.left -= 1
        source = base64.b64encode(content).decode()
        return f'<figure><img alt="" loading="lazy" src="data:image/jpeg;base64,{source}"></figure>'


def _section(kind: str, group: Sequence[Finding], images: _Thumbnails) -> str:
    items = "".join(_item(finding, images) for finding in group[:MOST_OF_A_KIND])
    more = len(group) - MOST_OF_A_KIND
    rest = f"<p>and {more:,} more: --csv FILE writes all</p>" if more > 0 else ""
    return f'<h2 id="{kind}">{escape(KINDS[kind])}: {len(group):,}</h2><ul>{items}</ul>{rest}'


def _item(finding: Finding, images: _Thumbnails) -> str:
    pair = [finding.file, finding.compared_with if is_pair(finding) else ""]
    shown = "".join(images.tag(file) for file in pair if file)
    name = f"<div><code>{_text(finding.file)}</code></div>" if finding.file else ""
    about = f"{finding.split}, {finding.label}: " if finding.file else ""
    return f"<li>{shown}{name}<p>{_text(about + finding.reason)}</p></li>"


def is_pair(finding: Finding) -> bool:
    """Whether a finding compares two pictures."""
    return finding.kind.removeprefix("near_") in ("leak", "conflict", "duplicate")


def _text(text: str) -> str:
    """Returns text for the page; bytes of names that are no text as escapes."""
    return escape(without_controls(text.encode(errors="surrogateescape").decode(errors="backslashreplace")))
