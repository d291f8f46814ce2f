"""Which rows are trained, how often and in which order, and which are kept for evaluation. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from newt.support.errors import NewtError


def shares(weights: Sequence[float], amounts: Sequence[float] | None = None) -> np.ndarray:
    """What part of the mix each dataset is.

    Args:
        weights: one for each dataset, positive.
        amounts: rows (or tokens) of each dataset, where a weight says how often a row is used. None: the weights are
            the parts themselves, up to a common factor (``weight_by``, and streams, whose size is not known).

    Returns:
        float64 (datasets,), sums to 1.
    """
    parts = np.asarray(weights, np.float64) * (1.0 if amounts is None else np.asarray(amounts, np.float64))
    return np.asarray(parts / parts.sum())


def next_source(wanted: np.ndarray, drawn: Sequence[float] | np.ndarray) -> int:
    """The dataset of a stream that gives the next row: the one that is farthest behind its share.

    It depends on what was drawn alone, so a stream can be taken up again, and the mix is kept at every moment.

    Args:
        wanted: of :func:`shares`.
        drawn: rows (or tokens) that each dataset has given so far.
    """
    given = np.asarray(drawn, np.float64)
    return int(np.argmax(wanted * (given.sum() + 1) - given))


def passes(weights: Sequence[float], amounts: Sequence[float]) -> np.ndarray:
    """How often the rows of each dataset are used in an epoch whose parts are the shares of ``weights``.

    The epoch is as long as without weights.

    Args:
        weights: one for each dataset, positive.
        amounts: rows (or tokens) of each dataset.

    Returns:
        float64 (datasets,); 0 where a dataset has no rows.
    """
    sizes = np.asarray(amounts, np.float64)
    wanted = shares(weights) * sizes.sum()
    return np.asarray(np.divide(wanted, sizes, out=np.zeros_like(wanted), where=sizes > 0))


def draw(size: int, times: float, seed: Sequence[int], tokens: np.ndarray | None = None) -> np.ndarray:
    """Rows of one dataset for an epoch: all of them as often as ``times`` says, then a random part for the fraction.

    Args:
        size: rows of the dataset.
        times: how often a row is used on average.
        seed: decides which rows the fraction takes.
        tokens: of each row, (size,): the fraction is one of tokens, not of rows.

    Returns:
        int64, numbers of rows below ``size``, in ascending order within each pass.
    """
    if tokens is None:
        whole, rest = divmod(math.floor(times * size + 0.5), max(1, size))
        few = np.random.default_rng(seed).permutation(size)[:rest]
    else:
        whole = math.floor(times)
        few = np.random.default_rng(seed).permutation(size)
        reached = np.concatenate([[0], np.cumsum(tokens[few], dtype=np.int64)])
        few = few[: int(np.argmin(np.abs(reached - (times - whole) * reached[-1])))]
    return np.concatenate([np.tile(np.arange(size), whole), np.sort(few)]).astype(np.int64)


def part(size: int, number: int, index: int) -> slice:
    """Part ``index`` of ``number`` neighbouring parts of ``size`` rows; the first ones are longer by one if need be."""
    each, more = divmod(size, number)
    start = index * each + min(index, more)
    return slice(start, start + each + (index < more))


def sample(size: int, shards: int, index: int, seed: int) -> np.ndarray:
    """The rows that ``shards`` and ``shards_idx`` take, int64, in the order of the shuffle that they are cut from."""
    return _permutation(size, seed)[part(size, shards, index)]


def merge(parts: Sequence[np.ndarray], *, shuffle_each: bool, shuffle_merged: bool, seed: int) -> np.ndarray:
    """Join the rows of several datasets.

    Args:
        parts: numbers of the rows of each dataset, in their order.
        shuffle_each: shuffle every dataset (of several) before they are joined.
        shuffle_merged: shuffle the joined rows.
        seed: of ``numpy.random.default_rng``; the same for every shuffle.

    Returns:
        int64 (rows,).
    """
    if shuffle_each and len(parts) > 1:
        parts = [rows[_permutation(len(rows), seed)] for rows in parts]
    order = np.concatenate([np.zeros(0, np.int64), *parts])
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
