from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from tests.training.tiny import CAPACITY, Rows

from newt.data.collate import PackedCollator, PaddedCollator
from newt.data.pack import best_fit_decreasing
from newt.losses.causal import POSITIONS
from newt.training.batches import TOKENS, BatchSampler, Collate, Picked, Place, make_loader


def pack(lengths: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return best_fit_decreasing(lengths, CAPACITY, seed)


def rows_of(batches: list) -> list[int]:  # type: ignore[type-arg]
    return [row for batch in batches for pick in batch if not pick.filler for row in pick.rows]


@pytest.mark.parametrize("packer", [None, pack], ids=["rows", "packed"])
@pytest.mark.parametrize("micro", [1, 3])
def test_every_row_comes_once_in_an_epoch(packer, micro) -> None:  # type: ignore[no-untyped-def]
    sampler = BatchSampler(Rows(50).lengths, micro, seed=1, packer=packer)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(rows_of(batches)) == list(range(50))


@pytest.mark.parametrize("packer", [None, pack], ids=["rows", "packed"])
def test_order_depends_on_seed_and_epoch_alone(packer) -> None:  # type: ignore[no-untyped-def]
    lengths = Rows(50).lengths
    sampler = BatchSampler(lengths, 2, seed=1, packer=packer)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    sampler.set_epoch(0)
    assert list(sampler) == first != second
    direct = BatchSampler(lengths, 2, seed=1, packer=packer)
    direct.set_epoch(1)
    assert list(direct) == second
    assert [direct[i] for i in (5, 3)] == [second[5], second[3]]
    assert list(BatchSampler(lengths, 2, seed=2, packer=packer)) != first


def test_packed_bins_respect_the_length() -> None:
    lengths = Rows(50).lengths
    for batch in BatchSampler(lengths, 2, seed=0, packer=pack):
        for pick in batch:
            assert lengths[list(pick.rows)].sum() <= CAPACITY


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_share_the_global_order(world: int) -> None:
    lengths = Rows(41).lengths
    alone = list(BatchSampler(lengths, 3, seed=5))
    ranks = [list(BatchSampler(lengths, 3, seed=5, place=Place(rank, world))) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {-(-len(alone) // world)}
    turns = chain.from_iterable(zip(*ranks, strict=True))
    assert [batch for batch in turns if not batch[0].filler] == alone


def test_drop_last_leaves_out_the_smaller_batch() -> None:
    lengths = Rows(11).lengths
    assert [len(batch) for batch in BatchSampler(lengths, 4, seed=0)] == [4, 4, 3]
    assert [len(batch) for batch in BatchSampler(lengths, 4, seed=0, drop_last=True)] == [4, 4]
    assert len(BatchSampler(lengths, 4, seed=0, drop_last=True, place=Place(0, 2))) == 1
    assert len(BatchSampler(lengths, 12, seed=0, drop_last=True)) == 0


def test_without_shuffle_rows_keep_their_order() -> None:
    assert rows_of(list(BatchSampler(Rows(7).lengths, 2, seed=0, shuffle=False))) == list(range(7))


def test_fillers_train_nothing() -> None:
    data = Rows(3)
    sampler = BatchSampler(data.lengths, 2, seed=0, place=Place(1, 4))
    sampler_3 = BatchSampler(data.lengths, 2, seed=0, place=Place(3, 4))
    collate = Collate(PaddedCollator(0), packed=False)
    (real,), (filler,) = (list(make_loader(data, s, collate)) for s in (sampler, sampler_3))
    assert (real["labels"] != -100).any()
    assert not (filler["labels"] != -100).any()


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_counts_tokens_and_leaves_the_global_generator_alone(workers: int) -> None:
    data = Rows(20)
    sampler = BatchSampler(data.lengths, 2, seed=0, packer=pack)
    collate = Collate(PackedCollator(0, CAPACITY), packed=True)
    before = torch.get_rng_state()
    batches = list(make_loader(data, sampler, collate, num_workers=workers))
    assert torch.equal(before, torch.get_rng_state())
    assert sum(batch[TOKENS] for batch in batches) == data.lengths.sum()
    for batch in batches:
        assert batch["input_ids"].shape[1] == CAPACITY
        trained = (batch["labels"][:, 1:] != -100).any(0).sum()
        assert len(batch[POSITIONS]) == trained


def test_picked_looks_up_rows() -> None:
    data = Rows(5)
    picked = Picked(data)
    (pick,) = BatchSampler(data.lengths, 1, seed=0, shuffle=False)[2]
    assert picked[pick][0]["input_ids"].tolist() == data.ids[2].tolist()


def test_a_packer_that_changes_its_mind_is_caught() -> None:
    def strange(lengths: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        bins = 5 if seed % 2 else 4
        return np.arange(20), np.linspace(0, 20, bins + 1).astype(np.int64)

    sampler = BatchSampler(Rows(20).lengths, 1, seed=0, packer=strange)
    with pytest.raises(AssertionError, match="same number of bins"):
        for epoch in range(10):
            sampler.set_epoch(epoch)
