"""Supervised rows against recorded vectors of another implementation.

Every difference stands in ``sft_differences.json`` under its reason: a row that agrees must not stand there, and a row
that differs must.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.messages import without_null
from newt.data.template import template_names
from newt.data.tokenize import RowTokenizer
from newt.extend import Format
from newt.formats.alpaca import Alpaca
from newt.formats.chat_template import ChatTemplate
from newt.formats.completion import Completion
from newt.support.errors import NewtError

SHARED = Path(__file__).resolve().parents[3] / "shared"
FORMATS: dict[str, type[Format]] = {fmt.name: fmt for fmt in (ChatTemplate, Alpaca, Completion)}
TEMPLATES = {None, "tokenizer_default", "tokenizer_default_fallback_chatml", "jinja", *template_names()}
"""Templates whose rows are compared."""
OTHER_TOKENS = {"special_tokens", "tokens", "added_tokens_overrides"}
"""Keys that change the tokenizer, which this test takes as it is."""


@cache
def tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(SHARED / "tokenizers" / name)


def comparable(row: dict[str, Any]) -> bool:
    entry, settings = row["dataset_config"], row["global_config"]
    return (
        str(entry.get("type")) in FORMATS
        and (SHARED / "tokenizers" / row["tokenizer"]).is_dir()
        and {entry.get("chat_template"), settings.get("chat_template")} <= TEMPLATES
        and not OTHER_TOKENS & set(settings)
    )


@cache
def recorded() -> list[dict[str, Any]]:
    with gzip.open(SHARED / "goldens" / "sft.jsonl.gz", "rt", encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if comparable(row)]


def encode(row: dict[str, Any]) -> list[tuple[list[int], list[int]]] | str:
    """Ids and labels of each token row, or the error."""
    settings = row["global_config"]
    template = Template(**{key: value for key, value in settings.items() if key in Template.model_fields})
    cfg = Config({Data: Data(train_on_inputs=settings.get("train_on_inputs", False)), Template: template})
    kind = FORMATS[row["dataset_config"]["type"]]
    try:
        fmt = kind(kind.Settings(path="x", **row["dataset_config"]), cfg)
        rows = RowTokenizer(tokenizer(row["tokenizer"]), cfg, fmt, settings.get("sequence_len", 2048))
        return [(r.input_ids.tolist(), r.labels.tolist()) for r in rows.encode(fmt(without_null(row["sample"])))]
    except (NewtError, ValueError) as error:
        return str(error)


def agrees(row: dict[str, Any]) -> bool:
    """The same ids and labels, or an error on both sides."""
    result = encode(row)
    if "expected_error" in row:
        return isinstance(result, str)
    expected = row["expected_rows"] if "expected_rows" in row else [row["expected"]]
    return result == [(one["input_ids"], one["labels"]) for one in expected]


@pytest.mark.skipif(not (SHARED / "goldens" / "sft.jsonl.gz").is_file(), reason="the recorded vectors are not here")
def test_every_difference_is_listed_with_its_reason() -> None:
    listed = json.loads((Path(__file__).parent / "sft_differences.json").read_text(encoding="utf-8"))
    assert set(listed["rows"]) <= set(listed["reasons"])
    ids = {id_ for rows in listed["rows"].values() for id_ in rows}
    different = {row["id"] for row in recorded() if not agrees(row)}
    assert len(recorded()) > 400
    assert sorted(different - ids) == []
    assert sorted(ids - different) == []
