"""Accepted and rejected configs against recorded verdicts of another implementation.

Every difference stands in ``config_differences.json`` under its reason: a row that agrees must not stand there, and a
row that differs must. A config that Newt only does not support yet counts as accepted.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from newt.commands.shared import find_problems

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "goldens" / "config.jsonl.gz"


def accepted(baseline: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether Newt finds nothing wrong, without a look at the machine and the files."""
    kept = {key: value for key, value in baseline.items() if key not in row["base_keys_dropped"]}
    _, problems = find_problems({**kept, **(yaml.safe_load(row["yaml"]) or {})}, facts=False)
    return all(problem.kind != "invalid" for problem in problems)


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded verdicts are not here")
def test_every_difference_is_listed_with_its_reason() -> None:
    with gzip.open(RECORDED, "rt", encoding="utf-8") as file:
        first, *rows = map(json.loads, file)
    baseline = yaml.safe_load(first["yaml"])
    different = {row["id"] for row in rows if accepted(baseline, row) != (row["outcome"] == "accepted")}
    print(f"{len(rows) - len(different)} of {len(rows)} rows agree")
    reasons = json.loads((Path(__file__).parent / "config_differences.json").read_text(encoding="utf-8"))
    listed = [id_ for ids in reasons.values() for id_ in ids]
    assert len(rows) > 200
    assert len(listed) == len(set(listed))
    assert sorted(different - set(listed)) == []
    assert sorted(set(listed) - different) == []
