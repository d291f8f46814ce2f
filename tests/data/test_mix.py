"""Order, shards, weights and split: equal to NumPy's own permutation, and to rows counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from newt.data.mix import draw, merge, next_source, part, passes, sample, shares, split
from newt.support.errors import NewtError


def parts(*sizes: int) -> list[np.ndarray]:
    """Rows numbered through."""
    return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])


# --------------------------------------------------------------------------- order


def test_without_shuffling_the_datasets_follow_each_other() -> None:
    assert merge(parts(3, 0, 2), shuffle_each=False, shuffle_merged=False, seed=1).tolist() == [0, 1, 2, 3, 4]
    assert merge([], shuffle_each=True, shuffle_merged=True, seed=1).tolist() == []
    given = [np.array([2, 0]), np.array([3])]
    assert merge(given, shuffle_each=False, shuffle_merged=False, seed=1).tolist() == [2, 0, 3]


def test_the_joined_rows_are_shuffled_by_the_seed() -> None:
    # what the widely used dataset library gives for 20 rows and seed 42
    expected = [15, 9, 14, 7, 12, 10, 6, 19, 3, 0, 16, 5, 11, 18, 2, 4, 17, 1, 13, 8]
    assert merge(parts(12, 8), shuffle_each=False, shuffle_merged=True, seed=42).tolist() == expected


def test_each_of_several_datasets_is_shuffled_on_its_own() -> None:
    order = merge(parts(4, 3), shuffle_each=True, shuffle_merged=False, seed=5)
    first, second = np.random.default_rng(5).permutation(4), np.random.default_rng(5).permutation(3)
    assert order.tolist() == [*first, *(4 + second)]
    both = merge(parts(4, 3), shuffle_each=True, shuffle_merged=True, seed=5)
    assert both.tolist() == order[np.random.default_rng(5).permutation(7)].tolist()
    assert merge(parts(4), shuffle_each=True, shuffle_merged=False, seed=5).tolist() == [0, 1, 2, 3]


# --------------------------------------------------------------------------- parts


def test_parts_cover_everything_once() -> None:
    cut = [list(range(20)[part(20, 3, index)]) for index in range(3)]
    assert [len(rows) for rows in cut] == [7, 7, 6]
    assert np.concatenate(cut).tolist() == list(range(20))
    assert [len(range(2)[part(2, 3, index)]) for index in range(3)] == [1, 1, 0]


def test_a_sample_is_cut_from_the_shuffled_rows() -> None:
    shuffled = np.random.default_rng(42).permutation(20).tolist()
    assert np.concatenate([sample(20, 4, index, 42) for index in range(4)]).tolist() == shuffled
    assert sample(20, 4, 0, 42).tolist() == [15, 9, 14, 7, 12]


# --------------------------------------------------------------------------- weights


def test_shares_of_passes_and_of_plain_weights() -> None:
    assert shares([2, 1], [100, 300]).tolist() == [0.4, 0.6]
    assert shares([3, 1]).tolist() == [0.75, 0.25]


def test_an_epoch_with_target_shares_is_as_long_as_without() -> None:
    # 400 rows; three quarters of them from the 100: 3 passes; the rest from the 300: a third of a pass
    times = passes([3, 1], [100, 300])
    assert times.tolist() == pytest.approx([3, 1 / 3])
    assert passes([1, 1], [10, 0]).tolist() == pytest.approx([0.5, 0])


@pytest.mark.parametrize(
    ("times", "expected"), [(1, [1] * 10), (2, [2] * 10), (0.5, [0, 1]), (2.3, [2, 3]), (0.96, [1] * 10), (0.04, [0])]
)
def test_a_row_is_used_as_often_as_said(times: float, expected: list[int]) -> None:
    drawn = draw(10, times, (42, 0))
    assert len(drawn) == round(times * 10)
    assert set(np.bincount(drawn, minlength=10).tolist()) == set(expected)
    assert draw(10, times, (42, 0)).tolist() == drawn.tolist()


def test_a_fraction_is_drawn_by_the_seed_and_each_pass_keeps_the_order() -> None:
    few = np.random.default_rng((7, 1)).permutation(10)[:5]
    assert draw(10, 0.5, (7, 1)).tolist() == sorted(few)
    assert draw(10, 1.5, (7, 1)).tolist() == [*range(10), *sorted(few)]
    assert draw(10, 0.5, (8, 1)).tolist() != draw(10, 0.5, (7, 1)).tolist()


def test_a_fraction_of_the_tokens_is_met_to_half_a_row() -> None:
    tokens = np.random.default_rng(0).integers(1, 100, 500)
    for times in (0.1, 0.5, 1.7, 3.0):
        drawn = draw(500, times, (1, 0), tokens)
        assert abs(tokens[drawn].sum() - times * tokens.sum()) <= 50
    assert draw(3, 0.5, (1, 0), np.array([5, 5, 5])).size in (1, 2)
    assert draw(0, 2.0, (1, 0), np.zeros(0, np.int64)).tolist() == []


def test_a_stream_keeps_the_mix_at_every_moment() -> None:
    wanted, drawn = shares([5, 3, 2]), [0, 0, 0]
    for number in range(1, 1001):
        drawn[next_source(wanted, drawn)] += 1
        assert np.abs(np.array(drawn) - wanted * number).max() <= 1
    assert drawn == [500, 300, 200]


def test_a_stream_can_be_mixed_by_tokens() -> None:
    lengths, wanted, drawn = [100, 10], shares([1, 1]), [0, 0]
    for _ in range(1100):
        source = next_source(wanted, drawn)
        drawn[source] += lengths[source]
    assert abs(drawn[0] - drawn[1]) <= 100


# --------------------------------------------------------------------------- evaluation rows


@pytest.mark.parametrize(("size", "wanted"), [(0.05, 1), (0.25, 5), (0.51, 11), (1, 1), (3, 3), (19, 19)])
def test_the_size_is_a_share_or_a_number(size: float, wanted: int) -> None:
    order = merge(parts(20), shuffle_each=False, shuffle_merged=True, seed=42)
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
