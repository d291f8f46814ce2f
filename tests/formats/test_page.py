"""The rows of docs/formats.md are what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.formats.seen import seen

from newt.layouts import FORMATS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
LINE = re.compile(r"^\| (`.+?`) \| `(\{.+\})` \| (.+) \|$", re.MULTILINE)


def rows():
    for kinds, row, trained in LINE.findall(PAGE):
        for kind in re.findall(r"`(.+?)`", kinds):
            yield pytest.param(kind, json.loads(row), trained, id=kind)


@pytest.mark.parametrize(("kind", "row", "trained"), rows())
def test_a_row_of_the_page(kind, row, trained):
    text = seen(kind, row, sequence_len=4096)
    found = re.findall(r"⟦(.+?)⟧", text, re.DOTALL)
    assert len(found) == 1
    if trained.startswith("`"):
        assert found == [trained.strip("`")]


def test_every_type_is_on_the_page():
    text = PAGE.replace(":chat`", "`")
    kinds = {kind for fmt in FORMATS if fmt.rows in ("supervised", "steps") for kind in fmt.names or (fmt.name,)}
    bases = {kind.partition(":")[0].removesuffix(".load") for kind in kinds}
    not_types = {"custom", "module", "teacher", "pretrain", "pretokenized", "messages.chat"}
    others = {kind for kind in bases if "kd.chat_template" in kind}
    assert {kind for kind in bases - not_types - others if kind not in text} == set()
