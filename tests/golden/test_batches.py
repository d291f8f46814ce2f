"""Padded and packed batches, and packing, against what another implementation makes of the same rows.

Every difference has a reason, which is tested too: nothing is skipped.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from newt.data.collate import PackedCollator, PaddedCollator
from newt.data.pack import best_fit_decreasing, lower_bound_l2, sequential

GOLDENS = Path(__file__).resolve().parents[3] / "shared" / "goldens"
needs_recordings = pytest.mark.skipif(not GOLDENS.is_dir(), reason="the recorded batches are not here")


def read(name: str) -> list[dict[str, Any]]:
    with gzip.open(GOLDENS / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def rows_of(row: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The recorded samples, one list for each row of the batch."""
    return [item if isinstance(item, list) else [item] for item in row["features"]]


def ours(row: dict[str, Any]) -> dict[str, np.ndarray]:
    options, side, pad = row["options"], row["padding_side"], row["pad_token_id"]
    length = options["max_length"] if options["padding"] == "max_length" else None
    multiple = options["pad_to_multiple_of"]
    columns = ("input_ids", "labels", "position_ids")
    bins = [
        [{name: np.array(sample[name]) for name in columns if name in sample} for sample in samples]
        for samples in rows_of(row)
    ]
    if row["collator"] == "plain":
        batch = PaddedCollator(pad, multiple, length, side)([samples[0] for samples in bins])
    else:
        squashed = options.get("squash_position_ids")
        if squashed:  # the recorded positions run on over all samples; Newt's restart, so they are given to it
            for samples in bins:
                start = 0
                for sample in samples:
                    sample["position_ids"] = np.arange(start, start + len(sample["input_ids"]))
                    start += len(sample["input_ids"])
        batch = PackedCollator(pad, length, multiple, side)(bins)
    return {name: tensor.numpy() for name, tensor in batch.items()}


def sample_starts(row: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """True at the first token of every sample."""
    found = np.zeros(shape, bool)
    for number, samples in enumerate(rows_of(row)):
        lengths = [len(sample["input_ids"]) for sample in samples]
        place = shape[1] - sum(lengths) if row["padding_side"] == "left" else 0
        for length in lengths:
            found[number, place] = True
            place += length
    return found


def inner(array: np.ndarray, width: int, side: str) -> np.ndarray:
    """The part of a padded batch that is ``width`` wide and holds the samples."""
    return array[:, -width:] if side == "left" else array[:, :width]


@needs_recordings
def test_batches_equal_the_recorded_ones() -> None:
    rows = read("collator")
    assert len(rows) > 40
    for row in rows:
        batch, expected = ours(row), {name: np.array(value) for name, value in row["expected"].items()}
        assert np.array_equal(batch["input_ids"], expected["input_ids"]), row["id"]
        labels = expected["labels"].copy()
        # The first difference: no token of a sample stands before its first one, so nothing can predict that one.
        labels[sample_starts(row, labels.shape)] = -100
        # The second: padded to max_length, the recorded labels and positions stay shorter than the ids.
        width, side = labels.shape[1], row["padding_side"]
        assert width == batch["labels"].shape[1] or row["options"]["padding"] == "max_length"
        assert np.array_equal(inner(batch["labels"], width, side), labels), row["id"]
        assert (batch["labels"] != -100).sum() == (labels != -100).sum(), row["id"]
        if "position_ids" in batch and width == batch["labels"].shape[1]:
            assert np.array_equal(batch["position_ids"], expected["position_ids"]), row["id"]
        # The third: packed rows have no mask, since with one of ones the samples would see each other.
        assert ("attention_mask" in batch) == (row["collator"] == "plain"), row["id"]
        if "attention_mask" in batch:
            assert np.array_equal(batch["attention_mask"], expected["attention_mask"]), row["id"]


@needs_recordings
def test_packing_needs_no_more_bins_than_the_recorded_one() -> None:
    rows = read("packing")
    assert len(rows) > 50
    saved = 0
    for row in rows:
        lengths, capacity = np.array(row["lengths"], np.int32), row["bin_capacity"]
        expected, limit = row["expected"], row["max_samples_per_bin"]
        if lengths.max(initial=0) > capacity:  # recorded: the bin overflows
            with pytest.raises(ValueError, match="does not fit"):
                best_fit_decreasing(lengths, capacity)
            continue
        pack = sequential if row["sequential"] else best_fit_decreasing
        order, offsets = pack(lengths, capacity, max_per_bin=limit)
        bins = len(offsets) - 1
        assert sorted(order.tolist()) == list(range(len(lengths)))
        assert bins >= lower_bound_l2(lengths, capacity) if len(lengths) else bins == 0
        if row["sequential"] and not row["drop_last"] and not row.get("suspect"):
            assert bins == expected["n_bins_kept"], row["id"]
        if not row["sequential"] and not row["drop_last"]:
            # Rows of about a third of a bin are the one case in which longest first is not best.
            assert bins <= expected["n_bins_kept"] * (1.06 if row["distribution"] == "third" else 1), row["id"]
            saved += expected["n_bins_kept"] - bins
        if not row["sequential"]:
            assert bins <= max(row["reference"]["best_fit_decreasing_bins"], -(-len(lengths) // limit)), row["id"]
    assert saved > 0
