"""Accepted and rejected configs against recorded verdicts of another implementation, on seven machines.

Every difference stands in ``config_differences.json`` under its reason: a row that agrees must not stand there, and a
row that differs must. ``row`` is a verdict that differs without a look at the machine, or on every machine;
``row@machine`` differs on this one alone. A config that Newt only does not support yet counts as accepted.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from newt.commands.shared import _with_parents, plugin_parts
from newt.config.load import load
from newt.config.source import read
from newt.extend import Facts
from newt.registry import sections
from newt.run import EntryType, Run

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "goldens" / "config.jsonl.gz"
NO_MACHINE = "None"


class Everything(dict[str, str]):
    """Installed packages of a machine on which nothing but an NPU's is missing."""

    def __contains__(self, name: object) -> bool:
        return name != "torch-npu"

    def get(self, name: str, default: Any = None) -> Any:
        return dict.get(self, name, "1000")

    __getitem__ = get


def facts_of(machine: Mapping[str, Any]) -> Facts:
    """A recorded set of capabilities as facts; an AMD GPU counts as one that computes in bfloat16."""
    capabilities = machine["capabilities"]
    found = re.fullmatch(r"sm_(\d+)(\d)", capabilities["compute_capability"])
    return Facts(
        known=True,
        gpus=capabilities["n_gpu"],
        capability=(int(found[1]), int(found[2])) if found else (9, 4),
        packages=Everything(torch=machine["env_capabilities"]["torch_version"]),
    )


def verdicts(source: Mapping[str, Any], machines: Mapping[str, Facts]) -> Iterator[tuple[str, bool]]:
    """Machine -> whether Newt finds nothing wrong there."""
    found = read(source)
    parts, problems = plugin_parts(found, ())
    loaded = load(found, (), sections=sections(parts), entry_type=EntryType())
    problems += loaded.problems
    known = {key for problem in problems for key in problem.keys}
    for name, facts in machines.items():
        later = Run(loaded.config, facts, parts).problems() if loaded.config else ()
        wrong = [*problems, *(one for one in later if not known & set(_with_parents(one.keys)))]
        yield name, all(problem.kind != "invalid" for problem in wrong)


@pytest.mark.skipif(not RECORDED.is_file(), reason="the recorded verdicts are not here")
def test_every_difference_is_listed_with_its_reason() -> None:
    with gzip.open(RECORDED, "rt", encoding="utf-8") as file:
        first, *rows = map(json.loads, file)
    baseline = yaml.safe_load(first["yaml"])
    machines = {NO_MACHINE: Facts(), **{name: facts_of(found) for name, found in first["capsets"].items()}}
    different: set[str] = set()
    everywhere = {row["id"] for row in rows}
    for row in rows:
        kept = {key: value for key, value in baseline.items() if key not in row["base_keys_dropped"]}
        others = row.get("other_capability_outcomes") or {}
        for name, accepted in verdicts({**kept, **(yaml.safe_load(row["yaml"]) or {})}, machines):
            if accepted == (others.get(name, row)["outcome"] == "accepted"):
                everywhere.discard(row["id"])
            else:
                different.add(f"{row['id']}@{name}")
    number = len(rows) * len(machines)
    print(f"{number - len(different)} of {number} verdicts agree")
    reasons = json.loads((Path(__file__).parent / "config_differences.json").read_text(encoding="utf-8"))
    listed = [label for labels in reasons.values() for label in labels]
    assert len(rows) == 232
    assert len(listed) == len(set(listed))
    unlisted = {label for label in different if label not in listed and label.partition("@")[0] not in listed}
    assert sorted(unlisted) == []
    plain = everywhere | {label.partition("@")[0] for label in different if label.endswith(f"@{NO_MACHINE}")}
    assert sorted(label for label in listed if label not in different | plain) == []
