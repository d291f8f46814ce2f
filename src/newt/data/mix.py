"""The order of the training rows, and which of them are kept for evaluation. Numbers only: no row is moved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from newt.support.errors import NewtError


def merge(sizes: Sequence[int], *, shuffle_each: bool, shuffle_merged: bool, seed: int) -> np.ndarray:
    """Order of the rows of several datasets, which are numbered through in the order of the config.

    Args:
        sizes: rows of each dataset.
        shuffle_each: shuffle every dataset (of several) before they are joined.
        shuffle_merged: shuffle the joined rows.
        seed: of ``numpy.random.default_rng``; the same for every shuffle.

    Returns:
        int64 (rows,), a permutation.
    """
    parts, start = [np.zeros(0, np.int64)], 0
    for size in sizes:
        inside = _permutation(size, seed) if shuffle_each and len(sizes) > 1 else np.arange(size)
        parts.append(start + inside)
        start += size
    order = np.concatenate(parts)
    return order[_permutation(len(order), seed)] if shuffle_merged else order


def split(order: np.ndarray, size: float, *, shuffled: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep rows for evaluation (``val_set_size``).

    Shuffled rows give their last ones. Rows that stand in an order of the user's give rows drawn over all of them, so
    that the end of the last dataset is not the whole evaluation; both parts keep the order.

    Args:
        order: int64 (rows,).
        size: below 1 a share, rounded up; else a number of rows.
        shuffled: whether ``order`` is random already.
        seed: decides which rows are drawn.

    Returns:
        (training rows, evaluation rows).

    Raises:
        NewtError: nothing is left to train.
    """
    rows = len(order)
    wanted = math.ceil(rows * size) if size < 1 else int(size)
    if wanted >= rows:
        raise NewtError(f"val_set_size {size:g} takes {wanted} of {rows} rows and leaves none to train. Lower it.")
    evaluated = np.zeros(rows, bool)
    evaluated[_permutation(rows, seed)[:wanted] if not shuffled else np.arange(rows - wanted, rows)] = True
    return order[~evaluated], order[evaluated]


def _permutation(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(size)
