"""Equal rows, compared with sets of tuples."""

from __future__ import annotations

import numpy as np

from newt.data.dedup import IDS, Digests, digest, found_in, overlap, repeats


def digests(rows: list[tuple[list[int], list[int]]]) -> np.ndarray:
    held = Digests()
    for ids, labels in rows:
        held.add(digest(np.array(ids, np.int32), np.array(labels, np.int32)))
    return held.all()


def test_a_repeat_has_the_ids_and_the_labels_of_an_earlier_row() -> None:
    rows = [([1, 2], [1, 2]), ([1, 2], [-100, 2]), ([1, 2], [1, 2]), ([2, 1], [2, 1]), ([1, 2], [-100, 2])]
    assert repeats(digests(rows)).tolist() == [False, False, True, False, True]
    assert repeats(digests([])).tolist() == []


def test_repeats_of_many_rows() -> None:
    rng = np.random.default_rng(0)
    rows = [(rng.integers(0, 3, rng.integers(1, 6)).tolist(), [int(rng.integers(0, 2))]) for _ in range(2000)]
    seen: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    expected = []
    for ids, labels in rows:
        key = (tuple(ids), tuple(labels))
        expected.append(key in seen)
        seen.add(key)
    assert repeats(digests(rows)).tolist() == expected


def test_borders_of_ids_and_labels_count() -> None:
    assert repeats(digests([([1, 2], [3]), ([1], [2, 3])])).tolist() == [False, False]


def test_the_type_of_the_numbers_does_not_count() -> None:
    wide = np.array([1, 2], np.int64)
    assert digest(wide, wide) == digest(wide.astype(np.int32), wide.astype(np.int32))
    assert len(digest(wide, wide)) == 16


def test_rows_found_in_others_have_their_ids_whatever_their_labels() -> None:
    train = digests([([1, 2], [1, 2]), ([3], [3]), ([1, 2], [-100, 2])])[:, IDS]
    evaluated = digests([([5], [5]), ([1, 2], [9, 9])])[:, IDS]
    left, right = overlap(train, evaluated)
    assert left.tolist() == [True, False, True]
    assert right.tolist() == [False, True]
    assert found_in(train, evaluated[:0]).tolist() == [False] * 3
    assert found_in(train[:0], evaluated).tolist() == []
