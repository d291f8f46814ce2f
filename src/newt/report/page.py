"""Pages: one HTML file each, with its style and script inside. Everything that a template prints is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from newt.report import numbers

HERE = Path(__file__).parent


@cache
def environment() -> Environment:
    """Jinja with autoescape and the filters of ``numbers``."""
    made = Environment(
        loader=FileSystemLoader(HERE / "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (numbers.count, numbers.compact, numbers.short, numbers.percent, numbers.duration):
        made.filters[filter_.__name__] = filter_
    return made


def render(name: str, **values: Any) -> str:
    """A whole page from a template of ``pages/``."""
    # Style and script are the package's own text: the only two that may enter a page unescaped.
    style, script = (Markup((HERE / "pages" / own).read_text(encoding="utf-8")) for own in ("style.css", "script.js"))
    text = environment().get_template(name).render(style=style, script=script, **values)
    # JSON may hold half of a surrogate pair, which no file can.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
