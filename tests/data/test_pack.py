"""Packing: against a naive best fit, a published bound, and what must hold for every plan."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newt.data.pack import best_fit_decreasing, efficiency, lower_bound_l2, sequential

CASES = st.integers(1, 60).flatmap(
    lambda capacity: st.tuples(st.just(capacity), st.lists(st.integers(1, capacity), max_size=80))
)


def naive(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best fit, longest first, one row at a time."""
    bins: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [content for content in bins if sum(content) + length <= capacity]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            bins.append([length])
    return bins


def contents(lengths: np.ndarray, order: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [lengths[order[a:b]].tolist() for a, b in pairwise(offsets)]


@given(CASES)
@settings(max_examples=400, deadline=None)
def test_bins_are_as_full_as_those_of_naive_best_fit_decreasing(case: tuple[int, list[int]]) -> None:
    capacity, listed = case
    lengths = np.array(listed, np.int32)
    order, offsets = best_fit_decreasing(lengths, capacity)
    # which of two equally full bins a row goes to is free, how full the bins get is not
    assert sorted(map(sum, contents(lengths, order, offsets))) == sorted(map(sum, naive(listed, capacity)))


@given(CASES, st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_no_row_is_lost_and_no_limit_exceeded(case: tuple[int, list[int]], limit: int, seed: int) -> None:
    capacity, listed = case
    lengths = np.array(listed, np.int32)
    for order, offsets in (
        best_fit_decreasing(lengths, capacity, seed, limit),
        sequential(lengths, capacity, limit),
    ):
        assert order.dtype == np.int32
        assert offsets.dtype == np.int64
        assert sorted(order.tolist()) == list(range(len(listed)))
        bins = contents(lengths, order, offsets)
        assert all(1 <= len(content) <= limit and sum(content) <= capacity for content in bins)
        assert len(bins) >= lower_bound_l2(lengths, capacity)


@given(CASES)
@settings(max_examples=100, deadline=None)
def test_the_lower_bound_holds_and_is_at_least_the_volume(case: tuple[int, list[int]]) -> None:
    capacity, listed = case
    bound = lower_bound_l2(np.array(listed, np.int32), capacity)
    assert -(-sum(listed) // capacity) <= bound <= len(naive(listed, capacity))


def test_the_lower_bound_sees_rows_that_cannot_share() -> None:
    assert lower_bound_l2(np.array([6, 6, 6, 6]), 10) == 4  # 24 tokens would fit into 3 bins of 10
    assert lower_bound_l2(np.array([7, 7, 4, 4]), 10) == 3  # the fours share one bin, each seven is alone


def test_the_seed_decides_among_rows_of_one_length() -> None:
    lengths = np.full(50, 10, np.int32)
    first, again, other = (best_fit_decreasing(lengths, 30, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_many_rows_come_close_to_the_bound() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(np.log(580) - 0.5, 1.0, 50_000), 1, 4096).astype(np.int32)
    order, offsets = best_fit_decreasing(lengths, 4096)
    assert len(offsets) - 1 <= 1.001 * lower_bound_l2(lengths, 4096)
    assert np.add.reduceat(lengths[order], offsets[:-1]).max() <= 4096
    assert efficiency(lengths, offsets, 4096) == lengths.sum() / ((len(offsets) - 1) * 4096)


def test_capacities_beyond_16_bits() -> None:
    lengths = np.array([70_000, 100_000, 30_000, 1], np.int32)
    order, offsets = best_fit_decreasing(lengths, 100_000)
    assert contents(lengths, order, offsets) == [[100_000], [70_000, 30_000], [1]]


def test_sequential_keeps_the_order() -> None:
    order, offsets = sequential(np.array([5, 4, 3, 8, 2]), 10)
    assert order.tolist() == [0, 1, 2, 3, 4]
    assert offsets.tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("pack", [best_fit_decreasing, sequential])
def test_rows_that_cannot_be_packed_are_refused(pack: object) -> None:
    with pytest.raises(ValueError, match="11 tokens does not fit into 10"):
        pack(np.array([3, 11]), 10)  # type: ignore[operator]
    with pytest.raises(ValueError, match="without tokens"):
        pack(np.array([3, 0]), 10)  # type: ignore[operator]


def test_nothing_to_pack() -> None:
    for order, offsets in (best_fit_decreasing(np.zeros(0, np.int32), 8), sequential(np.zeros(0, np.int32), 8)):
        assert len(order) == 0
        assert offsets.tolist() == [0]
        assert efficiency(np.zeros(0), offsets, 8) == 1.0


def test_many_different_lengths_are_packed_by_rounded_ones_within_a_thousandth() -> None:
    capacity = 32768
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(9000), 0.8, 200_000), 1, capacity).astype(np.int32)
    order, offsets = best_fit_decreasing(lengths, capacity)
    assert np.add.reduceat(lengths[order].astype(np.int64), offsets[:-1]).max() <= capacity
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert (len(offsets) - 1) / lower_bound_l2(lengths, capacity) <= 1.001


def test_few_different_lengths_are_packed_exactly() -> None:
    assert len(best_fit_decreasing(np.full(9, 10_922), 32768)[1]) - 1 == 3  # rounded up, only two would fit
