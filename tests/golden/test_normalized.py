"""Derived numbers against those of another implementation.

Every difference stands in ``normalized_differences.json`` under its reason, as ``row: field`` or ``*: field``; what
agrees must not stand there.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from newt.commands.derived import derive
from newt.commands.shared import find_problems
from newt.config.core import Model
from newt.extend import Facts
from newt.run import Run

SHARED = Path(__file__).resolve().parents[3] / "shared"
RECORDED = SHARED / "goldens" / "config_normalized.jsonl.gz"
DERIVED = {
    "batch_size": "global batch",
    "eval_batch_size": "evaluation batch",
    "world_size": "processes",
    "save_steps": "saved every",
    "eval_steps": "evaluated every",
    "torch_dtype": "weights",
}
"""Recorded field -> what config-explain calls it. Other fields are keys of the config."""


def ours(field: str, run: Run, numbers: Mapping[str, Any]) -> Any:
    """The value that Newt comes to for a recorded field."""
    if field == "torch_dtype":
        return f"torch.{numbers['weights']}"
    if field in DERIVED:
        return numbers.get(DERIVED[field])
    if field in ("base_model_config", "tokenizer_config"):
        return getattr(run.cfg[Model], field) or run.cfg[Model].base_model
    return run.cfg.to_dict().get(field)


def different_fields(row: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> set[str]:
    for name in ("WORLD_SIZE", "LOCAL_RANK", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in row["env"].items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv("LOCAL_RANK", "0")
    kept = {key: value for key, value in row["base"].items() if key not in row["dropped"]}
    # The recorded rows name another model than they load where the two differ; the loaded one is what counts.
    base = {**kept, "base_model": f"$TOK/{row['model']}", **row["overrides"]}
    parsed, problems = find_problems(base, facts=False)
    assert parsed is not None, problems
    run = Run(parsed.cfg, Facts(known=True))
    numbers = {one.name: one.value for one in derive(run)}
    return {field for field, value in compared(row).items() if ours(field, run, numbers) != value}


def compared(row: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded values that follow from the config alone, not from the machine or from a model's config.json."""
    left_out = {*row["host_dependent_fields"], "model_config_type"} - {"torch_dtype"}
    return {field: value for field, value in row["changed_by_normalize"].items() if field not in left_out}


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded values are not here")
def test_every_difference_is_listed_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with gzip.open(RECORDED, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    found = {f"{row['id']}: {field}" for row in rows for field in different_fields(row, monkeypatch)}
    number = sum(len(compared(row)) for row in rows)
    print(f"{number - len(found)} of {number} values agree")
    everywhere = {f"*: {label.partition(': ')[2]}" for label in found}
    reasons = json.loads((Path(__file__).parent / "normalized_differences.json").read_text(encoding="utf-8"))
    listed = [label for labels in reasons.values() for label in labels]
    assert len(listed) == len(set(listed))
    unlisted = {label for label in found if label not in listed and f"*: {label.partition(': ')[2]}" not in listed}
    assert sorted(unlisted) == []
    assert sorted(label for label in listed if label not in found | everywhere) == []
