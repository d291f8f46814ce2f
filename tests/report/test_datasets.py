"""The page about prepared data, and the data part that the report shares with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from newt.report.datasets import section, write_data_report
from newt.report.tables import data_summary


def entry(path: str, **keys: Any) -> dict[str, Any]:
    base = {
        "path": path,
        "type": "chat_template",
        "use": "train",
        "rows": 100,
        "kept": 90,
        "too_long": 10,
        "tokens": 900,
    }
    return {**base, "trained": 450, "used": 90, "used_tokens": 900, "notes": {"odd <b>": 2}, **keys}


def summary(**keys: Any) -> dict[str, Any]:
    base = {"train_rows": 360, "eval_rows": 9, "train_tokens": 1200, "trained_tokens": 600, "longest": 64, "leaked": 2}
    datasets = [
        entry("a.jsonl", duplicates=5, used=270),
        entry("b.jsonl", used_tokens=300),
        entry("t.jsonl", use="eval"),
    ]
    lengths = {"length_edges": [0, 32, 65], "length_counts": [300, 60]}
    return {**base, **lengths, "datasets": datasets, "notes": ["leakage: 2 of 9 evaluation rows"], **keys}


def test_the_page_says_what_is_in_the_data(tmp_path: Path, parse: Any) -> None:
    path = write_data_report(summary(), 90, tmp_path)
    assert path == tmp_path / "report.html"
    text = " ".join(parse(path.read_text(encoding="utf-8")).text.split())
    for part in (
        "360 longest 64 tokens", "1.2k 50 % of them trained", "9 2 trained as well", "leakage: 2 of 9",
        "a.jsonl: 5 rows are equal to an earlier row and were kept.", "75 %75 % of tokens", "25 %25 % of tokens",
        "odd <b>: 2", "sequence_len 90",
    ):  # fmt: skip
        assert part in text, part


def test_columns_without_content_are_left_out() -> None:
    one = section(data_summary({"data": summary(datasets=[entry("a.jsonl")])}), 128)
    assert (one["has_duplicates"], one["has_mix"], one["data_total"]) == (False, False, None)
    several = section(data_summary({"data": summary()}), 128)
    assert (several["has_duplicates"], several["has_mix"]) == (True, True)
    assert [row.mix for row in several["data_rows"]] == ["75 %", "25 %", ""]


def test_removed_duplicates_are_dropped_rows() -> None:
    made = section(data_summary({"data": summary(datasets=[entry("a.jsonl", duplicates=5, deduplicated=5)])}), 128)
    assert made["data_rows"][0].dropped_why == ["too long 10", "duplicates 5"]
