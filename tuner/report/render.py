"""A page as one file: a template of this folder with its text, the style, the script, and plotly."""

from pathlib import Path
from typing import Any

import jinja2

from tuner.findings.text import capitalized

_HERE = Path(__file__).parent


def render(template: str, content: dict[str, Any]) -> str:
    """Returns the page that a template of this folder makes of `content`, all of which is escaped."""
    from plotly.offline import get_plotlyjs

    loader = jinja2.FileSystemLoader(_HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["capitalize_first"] = capitalized
    own = {key: (_HERE / f"report.{key}").read_text() for key in ("css", "js")}
    return environment.get_template(template).render(content | own, plotly=get_plotlyjs())
