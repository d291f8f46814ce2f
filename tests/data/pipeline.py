"""A data pipeline small enough to predict: rows carry their ids, and the row tokenizer hands them through."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from newt.config.core import Batch, Cadence, Data, Dataset, Loader, Model, RunControl, Template
from newt.config.section import Config
from newt.data.tokenize import TokenRow
from newt.extend import DataPlan, Format, FormattedRow, Tokens
from newt.support.errors import DataError


class Ids(Format):
    """Rows {"ids": [...], "masked": n}: the first n labels are masked."""

    name = "ids"

    def __call__(self, row: Mapping[str, Any]) -> FormattedRow:
        if "ids" not in row:
            raise DataError("there is no column ids.")
        masked = row.get("masked", 0)
        return Tokens(row["ids"], [-100] * masked + list(row["ids"])[masked:])


class HandsThrough:
    """Stands in for the row tokenizer."""

    def __init__(self, tokenizer: Any, cfg: Config, fmt: Format, limit: int) -> None:
        self.notes: Counter[str] = Counter()

    def encode_many(self, rows: Sequence[FormattedRow]) -> list[list[TokenRow]]:
        return [[TokenRow(np.array(r.input_ids, np.int32), np.array(r.labels, np.int32))] for r in rows]


class FakeBackend:
    def __init__(self, content: str) -> None:
        self.content = content

    def to_str(self) -> str:
        return json.dumps({"model": self.content, "truncation": None, "padding": None})


class FakeTokenizer:
    """What the cache reads of a tokenizer."""

    is_fast = True

    def __init__(self, content: str = "words", template: str = "{{ messages }}", eos: str = "</s>") -> None:
        self.backend_tokenizer = FakeBackend(content)
        self.chat_template = template
        self.special_tokens_map = {"eos_token": eos}


def config(entries: Sequence[Dataset], tests: Sequence[Dataset] = (), **keys: Any) -> Config:
    """A config with these entries; further keys go to the section that has them."""
    keys = {"datasets": tuple(entries), "test_datasets": tuple(tests) or None, "dataset_num_proc": 1, **keys}
    chosen = {}
    for section, base in (
        (Model, {"base_model": "some/model"}),
        (Template, {}),
        (Data, {}),
        (Batch, {"micro_batch_size": 1, "gradient_accumulation_steps": 1}),
        (RunControl, {}),
        (Cadence, {}),
        (Loader, {}),
    ):
        own = {key: keys.pop(key) for key in list(keys) if key in section.model_fields}
        chosen[section] = section(**{**base, **own})
    assert not keys
    return Config(chosen)


def plan_of(cfg: Config, fmt: type[Format] = Ids) -> DataPlan:
    data = cfg[Data]
    plan = DataPlan(
        cfg, [fmt(e, cfg) for e in data.datasets or ()], eval_formats=[fmt(e, cfg) for e in data.test_datasets or ()]
    )
    plan.tokenize.fill(HandsThrough, by="test")
    return plan


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_ids(path: Path, lengths: Sequence[int], first: int = 1000, masked: int = 0) -> Path:
    """Row i has ``lengths[i]`` tokens, the first of which is ``first + i``."""
    rows = [{"ids": [first + i] + [7] * (n - 1), "masked": masked} for i, n in enumerate(lengths)]
    return write_jsonl(path, rows)
