"""Every key of the field is known: read by a section, or refused with "not supported yet"."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from newt.config.load import owners
from newt.config.pending import NESTED, ON_BY_DEFAULT, PENDING, PENDING_ENTRY
from newt.config.rename import REMOVED, RENAMED
from newt.registry import sections
from newt.run import EntryType

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "spec" / "01-config.md"
KEY = r"[a-z][a-z0-9_]+"


def _rows(title: str, end: str) -> list[list[str]]:
    text = REFERENCE.read_text().split(title)[1].split(end)[0]
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| CFG-")]
    return [[cell.replace("\\", "").strip() for cell in row] for row in rows]


def _names(cell: str) -> set[str]:
    """Plain keys in backticks."""
    return set(re.findall(rf"`({KEY})`", cell))


def test_every_key_of_the_reference_is_known() -> None:
    if not REFERENCE.is_file():
        pytest.skip("the list of the field's keys is not on this machine")
    first = "## 2. Run control"
    keys = {name for row in _rows(first, "## 6. Datasets") for name in _names(row[1])}
    keys |= {name for row in _rows("## 6. Datasets", "Dataset entry keys") for name in _names(row[1])}
    keys |= {name for row in _rows("## 7. Optimiser", "## 12. Loggers") for name in _names(row[1])}
    keys |= {name for row in _rows("## 12. Loggers", "## 13.") for name in _names(row[1])}
    assert len(keys) > 300, "the tables were found"
    known = {*owners(sections()), *PENDING, *RENAMED, *REMOVED}
    assert sorted(keys - known) == []


def test_every_key_of_a_dataset_entry_is_known() -> None:
    if not REFERENCE.is_file():
        pytest.skip("the list of the field's keys is not on this machine")
    text = REFERENCE.read_text()
    table = text.split("Dataset entry keys (SFT)")[1].split("DPO entry:")[0].rpartition("\n")[0]
    keys = {name for line in table.splitlines() if line.startswith("| CFG-") for name in _names(line.split("|")[2])}
    assert len(keys) > 30
    assert sorted(keys - {*PENDING_ENTRY, *EntryType().others}) == []


def test_tables_are_consistent() -> None:
    known = {*owners(sections()), *PENDING}
    assert set(NESTED) <= known
    assert known >= ON_BY_DEFAULT
