"""Every key with one typing mistake is refused, and nearly always the right name is suggested."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from newt.config.core import Dataset
from newt.config.load import load, nested_sections
from newt.config.pending import PENDING, PENDING_ENTRY
from newt.config.rename import REMOVED, RENAMED
from newt.config.section import Problem
from newt.registry import entry_types, sections
from newt.run import EntryType


def swap(key: str) -> str:
    middle = len(key) // 2
    return key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]


def drop(key: str) -> str:
    return key[: len(key) // 2] + key[len(key) // 2 + 1 :]


def double(key: str) -> str:
    return key[: len(key) // 2] + key[len(key) // 2] + key[len(key) // 2 :]


def replace(key: str) -> str:
    return key[: len(key) // 2] + "z" + key[len(key) // 2 + 1 :]


EDITS = (swap, drop, double, replace)
REAL = {*(key for section in sections() for key in section.model_fields), *PENDING, *RENAMED, *REMOVED}


def misspelt(keys: Iterable[str], edit: Callable[[str], str], real: set[str]) -> dict[str, str]:
    """Wrong name -> right name; keys too short to be told apart after an edit are left out."""
    pairs = {edit(key): key for key in keys if len(key) > 3}
    return {wrong: right for wrong, right in pairs.items() if wrong not in real}


def judge(problems: Iterable[Problem], pairs: dict[str, str], prefix: str = "") -> float:
    found = {problem.keys[0]: f"{problem.message} {problem.hint}" for problem in problems}
    missing = [wrong for wrong in pairs if "unknown key" not in found.get(prefix + wrong, "")]
    assert missing == []
    right = [name for wrong, name in pairs.items() if name in found[prefix + wrong]]
    return len(right) / len(pairs)


@pytest.mark.parametrize("edit", EDITS)
def test_top_level(edit):
    pairs = misspelt((key for section in sections() for key in section.model_fields), edit, REAL)
    assert len(pairs) > 300
    problems = load(dict.fromkeys(pairs, 1), sections=sections(), entry_type=EntryType()).problems
    assert judge(problems, pairs) >= 0.95


@pytest.mark.parametrize("edit", EDITS)
def test_nested_blocks(edit):
    shares = []
    for section in sections():
        for key, field in section.model_fields.items():
            for nested in nested_sections(field.annotation):
                pairs = (
                    {} if issubclass(nested, Dataset) else misspelt(nested.model_fields, edit, set(nested.model_fields))
                )
                if pairs and field.annotation and "tuple" not in str(field.annotation):
                    source = {key: dict.fromkeys(pairs, 1)}
                    problems = load(source, sections=sections(), entry_type=EntryType()).problems
                    shares += [judge(problems, pairs, f"{key}.")] * len(pairs)
    assert len(shares) > 50
    assert sum(shares) / len(shares) >= 0.95


@pytest.mark.parametrize("edit", EDITS)
def test_dataset_entries(edit):
    shares = []
    for name, section in entry_types().items():
        known = {
            *section.model_fields,
            *PENDING_ENTRY,
            *(key for other in entry_types().values() for key in other.model_fields),
        }
        pairs = misspelt(section.model_fields, edit, known)
        source = {"datasets": [{"path": "x", "type": name, **dict.fromkeys(pairs, 1)}]}
        problems = load(source, sections=sections(), entry_type=EntryType()).problems
        shares += [judge(problems, pairs, "datasets.0.")] * len(pairs)
    assert sum(shares) / len(shares) >= 0.95
