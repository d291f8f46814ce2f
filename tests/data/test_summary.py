"""What the user is told about the rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from newt.data.summary import DatasetSummary, Summary, histogram, render, render_lengths, spark

ENTRY = DatasetSummary(
    "chat.jsonl", "chat_template", "train", rows=1000, kept=960, too_long=30, too_short=4, nothing_to_train=6,
    truncated=5, tokens=50_000, trained=20_000, notes={"odd": 3}, duplicates=7, used=950, used_tokens=49_000,
    length_counts=[1, 100, 50],
)  # fmt: skip
SUMMARY = Summary(
    datasets=[ENTRY], train_rows=950, eval_rows=10, train_tokens=49_000, trained_tokens=19_600, longest=512,
    length_edges=[0, 10], length_counts=[950], packing_efficiency=0.987, packed_rows=120,
)  # fmt: skip


def test_a_summary_survives_json() -> None:
    assert Summary.from_dict(json.loads(json.dumps(SUMMARY.to_dict()))) == SUMMARY


def test_every_share_is_shown() -> None:
    lines = render(SUMMARY).splitlines()
    assert " ".join(lines[0].split()) == (
        "dataset type use rows kept dropped truncated duplicates tokens trained lengths"
    )
    assert " ".join(lines[1].split()) == (
        "chat.jsonl chat_template train 1,000 960 40 (4.0%) 5 (0.5%) 7 50,000 40.0% ▁█▄"
    )
    assert "chat.jsonl: dropped 30 longer than the limit, 4 too short, 6 without a trained token" in lines
    assert "chat.jsonl: 7 rows are equal to an earlier row and kept (dataset_exact_deduplication drops them)" in lines
    assert "chat.jsonl: odd (3 times)" in lines
    assert lines[-2] == (
        "950 training rows, 10 evaluation rows; 49,000 training tokens, 40.0% of them trained, the rest masked; "
        "longest row 512"
    )
    assert lines[-1] == "Packed into 120 sequences, 98.70% full"


def test_zero_is_shown_as_well() -> None:
    entry = DatasetSummary("a", "b", "train", rows=2, kept=2, tokens=10, trained=10)
    text = render(Summary([entry], 2, 0, 10, 10, 5, [5, 6], [2]))
    assert "0 (0.0%)" in text
    assert "dropped 0" not in text


def test_histogram() -> None:
    lengths = np.array([3, 3, 4, 50, 101])
    edges, counts = histogram(lengths, bins=4)
    assert (edges, counts) == ([3, 28, 53, 78, 103], [3, 1, 0, 1])
    assert histogram(np.array([7, 7])) == ([7, 8], [2])
    assert histogram(np.zeros(0)) == ([0, 1], [0])


def test_removed_duplicates_are_dropped_rows() -> None:
    text = render(replace(SUMMARY, datasets=[replace(ENTRY, deduplicated=7, kept=953)]))
    assert "47 (4.7%)" in text
    assert "6 without a trained token, 7 equal to an earlier row" in text
    assert "and kept" not in text


def test_the_mix_of_several_datasets_is_shown() -> None:
    other = replace(ENTRY, path="code.jsonl", used=50, used_tokens=6_125)
    lines = render(replace(SUMMARY, datasets=[ENTRY, other, replace(ENTRY, use="eval")], train_rows=1000)).splitlines()
    start = lines.index("An epoch takes:")
    assert " ".join(lines[start + 2].split()) == "5.0% of its rows, 12.5% of its tokens from code.jsonl (50 rows)"
    assert len([line for line in lines if "of its rows" in line]) == 2
    assert "An epoch takes" not in render(SUMMARY)


def test_lengths_as_bars() -> None:
    summary = replace(SUMMARY, length_edges=[3, 5, 7, 9, 11], length_counts=[10, 30, 0, 1], longest=10)
    assert render_lengths(summary, lines=4, width=10).splitlines()[1:] == [
        "   3 - 4   ███▍ 10",
        "   5 - 6   ██████████ 30",
        "   7 - 8    0",
        "   9 - 10  ▍ 1",
    ]
    assert render_lengths(summary, lines=2, width=4).splitlines()[1:] == ["   3 - 6   ████ 40", "   7 - 10  ▏ 1"]


def test_blocks_show_everything_that_is_not_zero() -> None:
    assert spark([0, 1, 500, 1000]) == " ▁▄█"
    assert spark([]) == spark([0, 0]) == ""
