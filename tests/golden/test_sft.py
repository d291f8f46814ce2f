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

from newt.config.core import Batch, Data, Model, RunControl, Template
from newt.config.section import Config
from newt.data.messages import without_null
from newt.data.template import template_names
from newt.data.tokenize import RowTokenizer
from newt.extend import Format
from newt.layouts import choose, format_of
from newt.models.tokenizer import load_tokenizer
from newt.support.errors import NewtError

SHARED = Path(__file__).resolve().parents[3] / "shared"
TEMPLATES = {None, "tokenizer_default", "tokenizer_default_fallback_chatml", "jinja", *template_names()}
"""Templates whose rows are compared."""
OWN_TOKENS = ("special_tokens", "tokens")
"""Keys that change the tokenizer."""


def tokenizer(row: dict[str, Any]) -> Any:
    """The tokenizer of a row, with the tokens that its config sets."""
    changes = {key: value for key, value in row["global_config"].items() if key in OWN_TOKENS}
    return loaded(row["tokenizer"], json.dumps(changes))


@cache
def loaded(name: str, changes: str) -> Any:
    folder = str(SHARED / "tokenizers" / name)
    return load_tokenizer(Config({Model: Model(base_model="x", tokenizer_config=folder, **json.loads(changes))}))


def kind(row: dict[str, Any]) -> type[Format] | str:
    """The format that reads a row, or why there is none."""
    entry = {"path": "x", **row["dataset_config"]}
    rows = "steps" if row["global_config"].get("process_reward_model") else "supervised"
    chosen = choose(entry, rows, {"preference": ["rl: dpo"], "steps": ["process_reward_model: true"]})
    found = format_of(entry.get("type"), rows)
    return chosen if isinstance(chosen, str) or found is None else found


def comparable(row: dict[str, Any]) -> bool:
    entry, settings = row["dataset_config"], row["global_config"]
    return (
        not settings.get("reward_model")
        and (SHARED / "tokenizers" / row["tokenizer"]).is_dir()
        and {entry.get("chat_template"), settings.get("chat_template")} <= TEMPLATES
    )


@cache
def recorded() -> list[dict[str, Any]]:
    with gzip.open(SHARED / "goldens" / "sft.jsonl.gz", "rt", encoding="utf-8") as file:
        return [row for row in map(json.loads, file) if comparable(row)]


def encode(row: dict[str, Any]) -> list[tuple[list[int], list[int]]] | str:
    """Ids and labels of each token row, or the error."""
    settings = row["global_config"]
    template = Template(**{key: value for key, value in settings.items() if key in Template.model_fields})
    sections = (Data(train_on_inputs=settings.get("train_on_inputs", False)), template, Batch(), RunControl())
    cfg = Config({type(section): section for section in sections})
    found = kind(row)
    if isinstance(found, str):
        return found
    try:
        fmt = found(found.Settings(**{"path": "x", **row["dataset_config"]}), cfg)
        if problems := [problem for problem in fmt.entry.check_entry(cfg, "datasets.0") if problem.kind == "invalid"]:
            return str(problems[0])
        rows = RowTokenizer(tokenizer(row), cfg, fmt, settings.get("sequence_len", 2048))
        made = fmt.source(tokenizer(row))
        samples = [without_null(row["sample"])] if made is None else list(made)
        encoded = [one for sample in samples for one in rows.encode(fmt(sample))]
        return [(one.input_ids.tolist(), one.labels.tolist()) for one in encoded]
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
