"""Order, shards, split, deduplication, lengths and steps against recorded runs of another implementation.

Every difference stands in ``data_pipeline_differences.json`` under its reason: a row that agrees must not stand there,
and a row that differs must.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.pipeline import FakeTokenizer, config, plan_of, write_jsonl

from newt.config.core import Batch, Data, Dataset, RunControl
from newt.data.prepare import Datasets, prepare
from newt.data.rows import TokenRows
from newt.support.errors import NewtError
from newt.training.batches import BatchSampler
from newt.training.cadence import Steps

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "goldens" / "data_pipeline.jsonl.gz"
KEYS = {key for section in (Data, Batch, RunControl) for key in section.model_fields}
DEFAULTS = {"sequence_len": 64, "micro_batch_size": 2, "gradient_accumulation_steps": 1}

pytestmark = pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded vectors are not here")


def write(files: list[Any] | None, name: str, folder: Path) -> list[str]:
    paths = []
    for number, rows in enumerate(files or ()):
        made = [
            {"ids": [row["id"], *[7] * (row["len"] - 1)], "masked": row["len"] if row.get("all_masked") else 0}
            for row in rows
        ]
        paths.append(str(write_jsonl(folder / f"{name}{number}.jsonl", made)))
    return paths


def prepared(row: dict[str, Any], folder: Path) -> tuple[dict[str, Any], Datasets]:
    """The batch and run keys of a row, and its data."""
    keys = {**DEFAULTS, **{key: value for key, value in row["global_config"].items() if key in KEYS}}
    keys["dataset_prepared_path"] = str(folder / "prepared")
    options = row.get("dataset_options") or [{}] * len(row["files"])
    entries = [
        Dataset(path=path, type="ids", **own)
        for path, own in zip(write(row["files"], "f", folder), options, strict=True)
    ]
    tests = [Dataset(path=path, type="ids") for path in write(row.get("test_files"), "t", folder)]
    plan = plan_of(config(entries, tests, **keys))
    plan.keep_order = bool(row["global_config"].get("curriculum_sampling"))
    return keys, prepare(plan, FakeTokenizer())


def firsts(rows: TokenRows | None) -> list[int] | None:
    return None if rows is None else [int(row["input_ids"][0]) for row in rows]


def outcome(row: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """What the recording says of a row, as Newt does it; None if Newt refuses it."""
    try:
        keys, made = prepared(row, folder)
    except NewtError:
        return None
    found: dict[str, Any] = {
        "train_ids": firsts(made.train),
        "train_lens": made.train.lengths.tolist(),
        "eval_ids": firsts(made.eval),
        "eval_lens": None if made.eval is None else made.eval.lengths.tolist(),
    }
    if "sample_packing" not in row["global_config"]:
        sampler = BatchSampler(made.train.lengths, keys["micro_batch_size"], seed=42)
        steps = Steps(len(sampler), keys["gradient_accumulation_steps"], keys.get("num_epochs", 1))
        found["total_num_steps"] = steps.total
    return found


def differs(row: dict[str, Any], folder: Path) -> bool:
    found, expected = outcome(row, folder), row.get("expected")
    if found is None or expected is None:
        return found is not expected
    return found != {key: expected[key] for key in found}


def test_every_difference_is_listed_with_its_reason(tmp_path: Path) -> None:
    listed = json.loads((Path(__file__).parent / "data_pipeline_differences.json").read_text(encoding="utf-8"))
    assert set(listed["rows"]) == set(listed["reasons"])
    ids = {id_ for rows in listed["rows"].values() for id_ in rows}
    with gzip.open(RECORDED, "rt", encoding="utf-8") as file:
        recorded = [json.loads(line) for line in file]
    preference = {row["id"] for row in recorded if "rl" in row}
    assert preference == set(listed["rows"]["preference"])
    plain = [row for row in recorded if "rl" not in row]
    different = {row["id"] for row in plain if differs(row, tmp_path / row["id"])}
    assert sorted(different - ids) == []
    assert sorted(ids - preference - different) == []
