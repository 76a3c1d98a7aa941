"""Findings as a short text: what matters first, a few of each kind."""

from collections.abc import Sequence

from tinytl.data_checks.findings import KINDS, Finding, by_kind
from tinytl.errors import without_controls

MOST_LINES = 5
"""Findings of a kind that are shown."""


def summary(findings: Sequence[Finding], whole_list: str | None) -> str:
    """Returns the text for a terminal; `whole_list`: the file that holds all findings, if there is one."""
    if not findings:
        return "Nothing was found."
    return "\n\n".join(_section(kind, group, whole_list) for kind, group in by_kind(findings).items())


def _section(kind: str, group: Sequence[Finding], whole_list: str | None) -> str:
    shown = group[:MOST_LINES]
    title = KINDS[kind] if len(group) == 1 and not group[0].file else f"{KINDS[kind]}: {len(group):,}"
    width = max(len(_name(finding)) for finding in shown)
    lines = [f"  {_name(finding):<{width}}  {without_controls(finding.reason)}" for finding in shown]
    if not any(finding.file for finding in shown):
        lines = [f"  {without_controls(finding.reason)}" for finding in shown]
    if len(group) > len(shown):
        where = whole_list or "--csv FILE writes all"
        lines.append(f"  and {len(group) - len(shown):,} more: {where}")
    return "\n".join([title, *lines])


def _name(finding: Finding) -> str:
    return without_controls(finding.file)
