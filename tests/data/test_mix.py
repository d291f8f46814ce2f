"""Order and split: equal to NumPy's own permutation, and to rows counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from newt.data.mix import merge, split
from newt.support.errors import NewtError


def test_without_shuffling_the_datasets_follow_each_other() -> None:
    assert merge([3, 0, 2], shuffle_each=False, shuffle_merged=False, seed=1).tolist() == [0, 1, 2, 3, 4]
    assert merge([], shuffle_each=True, shuffle_merged=True, seed=1).tolist() == []


def test_the_joined_rows_are_shuffled_by_the_seed() -> None:
    # what the widely used dataset library gives for 20 rows and seed 42
    expected = [15, 9, 14, 7, 12, 10, 6, 19, 3, 0, 16, 5, 11, 18, 2, 4, 17, 1, 13, 8]
    assert merge([12, 8], shuffle_each=False, shuffle_merged=True, seed=42).tolist() == expected


def test_each_of_several_datasets_is_shuffled_on_its_own() -> None:
    order = merge([4, 3], shuffle_each=True, shuffle_merged=False, seed=5)
    first, second = np.random.default_rng(5).permutation(4), np.random.default_rng(5).permutation(3)
    assert order.tolist() == [*first, *(4 + second)]
    both = merge([4, 3], shuffle_each=True, shuffle_merged=True, seed=5)
    assert both.tolist() == order[np.random.default_rng(5).permutation(7)].tolist()
    assert merge([4], shuffle_each=True, shuffle_merged=False, seed=5).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("size", "wanted"), [(0.05, 1), (0.25, 5), (0.51, 11), (1, 1), (3, 3), (19, 19)])
def test_the_size_is_a_share_or_a_number(size: float, wanted: int) -> None:
    order = merge([20], shuffle_each=False, shuffle_merged=True, seed=42)
    train, evaluated = split(order, size, shuffled=True, seed=42)
    assert len(evaluated) == wanted
    assert np.array_equal(np.concatenate([train, evaluated]), order)


def test_rows_in_an_order_of_the_user_keep_it_and_give_rows_from_everywhere() -> None:
    order = np.arange(1000)
    train, evaluated = split(order, 100, shuffled=False, seed=3)
    assert sorted([*train, *evaluated]) == order.tolist()
    assert (np.diff(train) > 0).all()
    assert (np.diff(evaluated) > 0).all()
    assert (evaluated < 500).sum() > 25
    assert np.array_equal(split(order, 100, shuffled=False, seed=3)[1], evaluated)
    assert not np.array_equal(split(order, 100, shuffled=False, seed=4)[1], evaluated)


@pytest.mark.parametrize("size", [5, 6, 0.99])
def test_something_must_be_left_to_train(size: float) -> None:
    with pytest.raises(NewtError, match="leaves none to train"):
        split(np.arange(5), size, shuffled=True, seed=0)
