"""Batches: every number of a small one, and what a model makes of packed rows."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from newt.data.collate import PackedCollator, PaddedCollator


def sample(*ids: int, masked: int = 0) -> dict[str, np.ndarray]:
    labels = [-100] * masked + list(ids[masked:])
    return {"input_ids": np.array(ids, np.int32), "labels": np.array(labels, np.int32)}


def test_packed_batch() -> None:
    batch = PackedCollator(pad_token_id=9, length=8)([[sample(1, 2, 3), sample(4, 5)], [sample(6, 7, masked=2)]])
    assert {name: tensor.dtype for name, tensor in batch.items()} == dict.fromkeys(
        ("input_ids", "labels", "position_ids"), torch.int64
    )
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 9, 9, 9], [6, 7, 9, 9, 9, 9, 9, 9]]
    assert batch["labels"].tolist() == [[-100, 2, 3, -100, 5, -100, -100, -100], [-100] * 8]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2], [0, 1, 0, 1, 2, 3, 4, 5]]


def test_packed_rows_without_a_length_go_to_the_longest_or_a_multiple() -> None:
    bins = [[sample(1, 2, 3), sample(4, 5)], [sample(6, 7)]]
    assert PackedCollator(0)(bins)["input_ids"].shape == (2, 5)
    assert PackedCollator(0, multiple=4)(bins)["input_ids"].shape == (2, 8)


def test_padded_batch() -> None:
    batch = PaddedCollator(pad_token_id=9, multiple=4)([sample(1, 2, 3, 4, 5), sample(6, 7, 8, masked=1)])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 9, 9, 9], [6, 7, 8, 9, 9, 9, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1] * 5 + [0] * 3, [1] * 3 + [0] * 5]
    assert batch["labels"].tolist() == [[-100, 2, 3, 4, 5, -100, -100, -100], [-100, 7, 8] + [-100] * 5]
    assert PaddedCollator(0)([sample(1, 2, 3)])["input_ids"].shape == (1, 3)
    assert PaddedCollator(0, length=6)([sample(1, 2, 3)])["input_ids"].shape == (1, 6)


def test_collators_travel_to_worker_processes() -> None:
    for collator in (PackedCollator(1, 8, None), PaddedCollator(1, 8)):
        assert pickle.loads(pickle.dumps(collator)) == collator


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a bin of 5 tokens does not fit into 4"):
        PackedCollator(0, length=4)([[sample(1, 2, 3), sample(4, 5)]])
    with pytest.raises(ValueError, match="a sample of 3 tokens does not fit into 2"):
        PaddedCollator(0, length=2)([sample(1, 2, 3)])


def test_packed_samples_do_not_see_each_other(model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir).eval()
    samples = [sample(*range(10, 20)), sample(*range(50, 57)), sample(*range(200, 204))]
    packed = PackedCollator(0, length=32)([samples])
    padded = PaddedCollator(0)(samples)
    losses = []
    with torch.no_grad():
        for batch in (packed, padded):
            labels = batch.pop("labels")
            logits = model(**batch, use_cache=False).logits
            losses.append(
                torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
                ).item()
            )
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
