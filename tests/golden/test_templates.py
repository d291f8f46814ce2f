"""The built-in chat templates against recorded renders of another implementation.

Every difference stands in ``templates_differences.json`` under its reason: a row that agrees must not stand there, and
a row that differs must.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from newt.data.render import ChatRenderer
from newt.data.template import built_in, template_names
from newt.support.errors import DataError

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "goldens" / "templates.jsonl.gz"
DATES = {"%d %b %Y": "21 Nov 2026", "%Y-%m-%d": "2026-11-21"}
"""The day of the recording in the ways in which templates write it."""

pytestmark = pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded vectors are not here")


@cache
def recorded() -> list[dict[str, Any]]:
    with gzip.open(RECORDED, "rt", encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if row.get("kind") != "index"]


def render(row: dict[str, Any]) -> str | None:
    """The text, None if the template refuses the conversation."""
    words = {key: row[key] for key in ("bos_token", "eos_token") if row[key] is not None}
    renderer = ChatRenderer(built_in(row["template"]), {**words, "strftime_now": DATES.__getitem__})
    kwargs = row.get("chat_template_kwargs") or {}
    try:
        return renderer.render(row["messages"], row.get("tools"), row["add_generation_prompt"], kwargs)[0]
    except DataError as error:
        assert str(error).startswith("the chat template refuses this conversation: ")
        return None


def test_every_recorded_template_is_built_in() -> None:
    assert {row["template"] for row in recorded()} <= set(template_names())


def test_every_difference_is_listed_with_its_reason() -> None:
    listed = json.loads((Path(__file__).parent / "templates_differences.json").read_text(encoding="utf-8"))
    assert set(listed["rows"]) == set(listed["reasons"])
    ids = {id_ for rows in listed["rows"].values() for id_ in rows}
    different = {row["id"] for row in recorded() if render(row) != row.get("expected_text")}
    assert sorted(different - ids) == []
    assert sorted(ids - different) == []
