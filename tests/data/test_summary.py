"""What the user is told about the rows."""

from __future__ import annotations

import json

import numpy as np

from newt.data.summary import DatasetSummary, Summary, histogram, render

ENTRY = DatasetSummary(
    "chat.jsonl", "chat_template", "train", rows=1000, kept=960, too_long=30, too_short=4, nothing_to_train=6,
    truncated=5, tokens=50_000, trained=20_000, notes={"odd": 3},
)  # fmt: skip
SUMMARY = Summary(
    datasets=[ENTRY], train_rows=950, eval_rows=10, train_tokens=49_000, trained_tokens=19_600, longest=512,
    length_edges=[0, 10], length_counts=[950], packing_efficiency=0.987, packed_rows=120,
)  # fmt: skip


def test_a_summary_survives_json() -> None:
    assert Summary.from_dict(json.loads(json.dumps(SUMMARY.to_dict()))) == SUMMARY


def test_every_share_is_shown() -> None:
    lines = render(SUMMARY).splitlines()
    assert lines[0].split() == ["dataset", "type", "use", "rows", "kept", "dropped", "truncated", "tokens", "trained"]
    assert " ".join(lines[1].split()) == "chat.jsonl chat_template train 1,000 960 40 (4.0%) 5 (0.5%) 50,000 40.0%"
    assert "chat.jsonl: dropped 30 longer than the limit, 4 too short, 6 without a trained token" in lines
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
