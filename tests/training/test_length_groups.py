"""Batches of similar length, compared with the sampler of transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from newt.training.batches import BatchSampler, Place
from newt.training.length_groups import LengthGrouped, grouped

LENGTHS = np.random.default_rng(0).integers(1, 500, 1000).astype(np.int32)


@pytest.mark.parametrize(("rows", "micro"), [(1000, 2), (1000, 16), (37, 4), (3, 4), (1, 1)])
def test_the_order_is_that_of_transformers(rows: int, micro: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.arange(rows) * 7919 % 10007 + 1  # all different, so that there is one answer
    order = np.random.default_rng(1).permutation(rows)
    monkeypatch.setattr(torch, "randperm", lambda n, generator=None: torch.from_numpy(order))
    expected = get_length_grouped_indices(lengths.tolist(), micro)
    assert grouped(order, lengths, micro).tolist() == expected


def rows_of(sampler: BatchSampler) -> list[int]:
    return [pick.rows[0] for batch in sampler for pick in batch if not pick.filler]


def test_every_row_comes_once_and_little_is_padded() -> None:
    sampler = LengthGrouped(LENGTHS, 8, seed=3)
    assert sorted(rows_of(sampler)) == list(range(1000))
    padded = sum(8 * max(LENGTHS[pick.rows[0]] for pick in batch) for batch in sampler)
    shuffled = sum(8 * max(LENGTHS[pick.rows[0]] for pick in batch) for batch in BatchSampler(LENGTHS, 8, seed=3))
    assert padded < 1.1 * LENGTHS.sum()
    assert shuffled > 1.5 * LENGTHS.sum()
    assert LENGTHS[rows_of(sampler)[0]] == LENGTHS.max()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    sampler = LengthGrouped(LENGTHS, 8, seed=3)
    first = rows_of(sampler)
    sampler.set_epoch(2)
    third = rows_of(sampler)
    direct = LengthGrouped(LENGTHS, 8, seed=3)
    direct.set_epoch(2)
    assert rows_of(direct) == third != first
    assert [pick.rows[0] for pick in direct[77]] == third[77 * 8 : 78 * 8]
    assert rows_of(LengthGrouped(LENGTHS, 8, seed=4)) != first


def test_ranks_share_one_order_of_like_batches() -> None:
    alone = list(LengthGrouped(LENGTHS, 8, seed=3))
    ranks = [list(LengthGrouped(LENGTHS, 8, seed=3, place=Place(rank, 2))) for rank in (0, 1)]
    turns = [batch for pair in zip(*ranks, strict=True) for batch in pair if not batch[0].filler]
    assert turns == alone


def test_no_rows() -> None:
    assert len(LengthGrouped(np.zeros(0, np.int32), 4, seed=0)) == 0
