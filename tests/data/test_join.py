"""Texts that share a row and see each other."""

import numpy as np
import torch

from newt.data.join import JoinedCollator


def text(*ids, masked=0):
    ids = np.array(ids, np.int32)
    labels = ids.copy()
    labels[:masked] = -100
    return {"input_ids": ids, "labels": labels}


def test_texts_stand_one_behind_the_other():
    batch = JoinedCollator(pad_token_id=0)([[text(5, 6), text(7, 8, masked=1)], [text(9)]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 0, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, -100, 8], [-100] * 4]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert "position_ids" not in batch
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_the_first_token_of_a_later_text_is_trained():
    assert JoinedCollator(0)([[text(5, 6), text(7)]])["labels"].tolist() == [[-100, 6, 7]]


def test_a_padding_token_between_texts_is_neither_seen_nor_trained():
    batch = JoinedCollator(0, length=6, separated=True)([[text(5, 6), text(7)]])
    assert batch["input_ids"].tolist() == [[5, 6, 0, 7, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, -100, 7, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 1, 0, 0]]


def test_a_full_row_needs_no_padding_behind_it():
    assert JoinedCollator(0, length=3, separated=True)([[text(5, 6, 7)]])["input_ids"].tolist() == [[5, 6, 7]]


def test_all_bins_in_one_row():
    batch = JoinedCollator(0, multiple=4, one_row=True)([[text(5)], [text(6, 7)]])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0]]
