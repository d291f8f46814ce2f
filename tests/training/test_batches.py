from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from tests.training.tiny import CAPACITY, Rows

from newt.data.collate import PackedCollator, PaddedCollator
from newt.data.cost import Cost, imbalance
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


@pytest.mark.parametrize("packer", [None, pack], ids=["rows", "packed"])
@pytest.mark.parametrize("world", [2, 3])
def test_balanced_ranks_lose_no_row_and_count_none_twice(packer, world: int) -> None:  # type: ignore[no-untyped-def]
    lengths = Rows(101).lengths
    for epoch in range(2):
        ranks = []
        for rank in range(world):
            sampler = BatchSampler(lengths, 2, seed=3, packer=packer, place=Place(rank, world, Cost(0.1)))
            sampler.set_epoch(epoch)
            ranks.append(list(sampler))
        assert sorted(chain.from_iterable(rows_of(batches) for batches in ranks)) == list(range(101))


def test_balance_makes_ranks_finish_together_and_keeps_the_micro_batches() -> None:
    lengths = np.minimum(np.random.default_rng(0).pareto(1.1, 4000) * 100 + 100, 5000).astype(np.int32)

    def turns(cost: Cost | None) -> tuple[np.ndarray, set[tuple[tuple[int, ...], ...]]]:
        ranks = [list(BatchSampler(lengths, 2, seed=3, place=Place(rank, 4, cost))) for rank in range(4)]
        longest = np.array([[max(lengths[pick.rows[0]] for pick in batch) for batch in batches] for batches in ranks])
        return longest.T.astype(float), {tuple(pick.rows for pick in batch) for batches in ranks for batch in batches}

    (random, batches), (balanced, same_batches) = turns(None), turns(Cost())
    assert imbalance(random) > 1.5
    assert imbalance(balanced) < 1.01
    assert batches == same_batches


def test_rows_in_order_stay_in_order_on_several_ranks() -> None:
    lengths = Rows(20).lengths
    ranks = [list(BatchSampler(lengths, 1, seed=0, shuffle=False, place=Place(r, 2, Cost()))) for r in range(2)]
    assert rows_of(list(chain.from_iterable(zip(*ranks, strict=True)))) == list(range(20))


def test_what_drop_last_leaves_out_is_counted() -> None:
    lengths = Rows(11).lengths
    assert BatchSampler(lengths, 4, seed=0).left_out == 0
    assert BatchSampler(lengths, 4, seed=0, place=Place(0, 2)).left_out == 0
    assert BatchSampler(lengths, 4, seed=0, drop_last=True).left_out == 3
    assert BatchSampler(lengths, 4, seed=0, drop_last=True, place=Place(0, 2)).left_out == 3
    assert BatchSampler(lengths, 5, seed=0, drop_last=True, place=Place(0, 2)).left_out == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_transforms_know_row_and_epoch(workers: int) -> None:
    data, seen = Rows(6), []

    def mark(sample, row, epoch):  # type: ignore[no-untyped-def]
        return {**sample, "input_ids": np.full_like(sample["input_ids"], 100 * epoch + row)}

    sampler = BatchSampler(data.lengths, 1, seed=0)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        loader = make_loader(data, sampler, Collate(PaddedCollator(0), packed=False), [mark], num_workers=workers)
        seen += [int(batch["input_ids"][0, 0]) for batch in loader]
    assert sorted(seen) == [0, 1, 2, 3, 4, 5, 100, 101, 102, 103, 104, 105]
