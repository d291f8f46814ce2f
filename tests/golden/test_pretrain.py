"""Pretraining rows against what another implementation makes of the same texts.

Rows without a mark must agree. Where they differ, the difference is named here with its reason and tested:

- An end token stands behind every text, also where texts are not joined: a model that never sees one never stops.
- A text without a token (only the end token is left) is dropped: one token trains nothing.
- Recordings marked as suspect lose what does not fit into one window, end windows in the middle of a text with an end
  token, or train repeated tokens twice. Newt keeps every token, trains it once, and ends a text once.
"""

from __future__ import annotations

import gzip
import itertools
import json
import operator
from functools import cache, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.helpers import make_run

from newt.config.core import Batch
from newt.data.encode import Encoder
from newt.data.join import JoinedCollator
from newt.data.records import Chunk, rows_as_read
from newt.extend import DataPlan
from newt.methods.pretrain import Concatenation

SHARED = Path(__file__).resolve().parents[3] / "shared"
RECORDED = SHARED / "goldens" / "pretrain.jsonl.gz"
pytestmark = pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded rows are not here")


def recordings() -> list[dict[str, Any]]:
    if not RECORDED.is_file():
        return []
    with gzip.open(RECORDED, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@cache
def tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    folder = SHARED / "tokenizers" / name
    if not folder.is_dir():
        pytest.skip(f"the shared tokenizer {name} is not on this machine")
    return AutoTokenizer.from_pretrained(folder)


def ours(row: dict[str, Any], texts: list[str] | None = None) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of every token row."""
    length = row.get("sequence_len") or row["max_tokens"]
    run = make_run(
        datasets=None, pretraining_dataset=[{"path": "a/b"}], streaming=True, max_steps=1, sequence_len=length
    )
    plan: DataPlan = run.data_plan()
    encoder = Encoder(plan, tokenizer(row["tokenizer"]), plan.formats[0], run.cfg[Batch].sequence_len, "sequence_len")
    rows = [{"text": text} for text in (row["texts"] if texts is None else texts)]
    columns = encoder(Chunk("recorded", 0, rows, rows_as_read)).columns
    ends = np.cumsum(columns["lengths"])[:-1]
    return [
        (ids.tolist(), labels.tolist())
        for ids, labels in zip(np.split(columns["input_ids"], ends), np.split(columns["labels"], ends), strict=True)
    ]


def joined(row: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The batch of all token rows, joined as ``pretraining_sample_concatenation`` does."""
    rows = [{"input_ids": np.array(ids), "labels": np.array(labels)} for ids, labels in ours(row)]
    order, offsets = Concatenation(row["max_tokens"])(np.array([len(one["input_ids"]) for one in rows]), 0)
    bins = [[rows[i] for i in order[low:high]] for low, high in itertools.pairwise(offsets)]
    pad = tokenizer(row["tokenizer"]).pad_token_id
    pad = tokenizer(row["tokenizer"]).eos_token_id if pad is None else pad
    return JoinedCollator(pad, length=row["max_tokens"], separated=True)(bins)


def parts(name: str) -> list[Any]:
    """Recordings: windows, joined texts, or texts of their own."""
    chosen = {
        "windows": lambda row: "sequence_len" in row,
        "joined": lambda row: row.get("concatenate") is True,
        "apart": lambda row: row.get("concatenate") is False,
    }[name]
    return [pytest.param(row, id=row["id"]) for row in recordings() if chosen(row)]


def agrees(row: dict[str, Any]) -> bool:
    """Whether nothing is known to be wrong with a recording."""
    return not row.get("suspect")


def without_empty(ids: list[list[int]], eos: int) -> list[list[int]]:
    return [one for one in ids if one != [eos]]


@pytest.mark.parametrize("row", [p for p in parts("windows") if agrees(p.values[0])])
def test_windows_agree(row: dict[str, Any]) -> None:
    eos = tokenizer(row["tokenizer"]).eos_token_id
    found = ours(row)
    assert [ids for ids, _ in found] == without_empty(row["expected"]["input_ids"], eos)
    assert all(ids == labels for ids, labels in found)


@pytest.mark.parametrize("row", [p for p in parts("joined") if agrees(p.values[0])])
def test_joined_texts_agree(row: dict[str, Any]) -> None:
    eos = tokenizer(row["tokenizer"]).eos_token_id
    expected = {name: np.array(values).astype(np.int64) for name, values in row["expected"].items()}
    if "" in row["texts"] and expected["input_ids"][0, 0] == eos:
        # The text without a token and its padding are not there.
        expected = {name: np.roll(values, -2, axis=1) for name, values in expected.items()}
        for name, fill in (("input_ids", expected["input_ids"][0, -3]), ("labels", -100), ("attention_mask", 0)):
            expected[name][:, -2:] = fill
    found = joined(row)
    expected["labels"][:, 0] = -100  # nothing predicts the first token of a row
    for name in ("input_ids", "labels", "attention_mask"):
        assert found[name].tolist() == expected[name].tolist(), name


@pytest.mark.parametrize("row", [p for p in parts("apart") if agrees(p.values[0])])
def test_texts_of_their_own_agree_and_end(row: dict[str, Any]) -> None:
    eos = tokenizer(row["tokenizer"]).eos_token_id
    expected = [[*ids, eos] for ids in row["expected"]["input_ids"]]
    assert [ids for ids, _ in ours(row)] == without_empty([[int(i) for i in ids] for ids in expected], eos)


@pytest.mark.parametrize(
    "row", [p for p in parts("windows") + parts("joined") + parts("apart") if not agrees(p.values[0])]
)
def test_suspect_recordings_lose_or_repeat_what_newt_keeps(row: dict[str, Any]) -> None:
    eos = tokenizer(row["tokenizer"]).eos_token_id
    head = tokenizer(row["tokenizer"])("")["input_ids"]
    head = head[:-1] if head and head[-1] == eos else head
    for text in row["texts"]:
        whole = tokenizer(row["tokenizer"])(text)["input_ids"]
        whole = whole[:-1] if whole[-1] == eos else whole
        windows = ours(row, [text])
        trained = [
            label for number, (_, labels) in enumerate(windows) for label in labels[0 if number else len(head) :]
        ]
        assert [label for label in trained if label != -100] == [*whole[len(head) :], eos]
        assert [ids.count(eos) for ids, _ in windows] == [0] * (len(windows) - 1) + [1]
        assert all(ids[: len(head)] == head for ids, _ in windows)


@pytest.mark.parametrize("name", ["qwen3", "llama3_1", "gemma3", "llama2"])
def test_no_tokenizer_loses_the_end_of_a_long_text(name: str) -> None:
    """Windows that the tokenizers library cuts by itself end after the first one with some tokenizers."""
    text = " ".join(f"Paragraph {i}: the survey vessel logged drift {i / 7:.3f} knots." for i in range(700))
    row = {"tokenizer": name, "sequence_len": 512, "texts": [text]}
    windows = ours(row)
    whole = tokenizer(name)(text)["input_ids"]
    assert len(windows) > 20
    covered = [windows[0][0]] + [[i for i, label in zip(*pair, strict=True) if label != -100] for pair in windows[1:]]
    assert reduce(operator.iadd, covered, []) == [*whole, tokenizer(name).eos_token_id]
    assert max(len(ids) for ids, _ in windows) == 512
