"""Positions that jump, so that short rows show a model the distances of a long context."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def skipping_positions(
    ids: np.ndarray, context: int, chunks: int, cuts: Sequence[int] | None, random: np.random.Generator
) -> np.ndarray:
    """Positions of a row that is cut into chunks, with a random jump before each chunk but the first.

    Each jump is drawn from what the ones before have left of the context (https://arxiv.org/abs/2309.10400).

    Args:
        ids: tokens of the row, (length,).
        context: positions stay below this; at least ``length``.
        chunks: chunks of equal length, where ``cuts`` is None.
        cuts: tokens with which a chunk begins.
        random: decides.

    Returns:
        int64 (length,), increasing from 0.
    """
    length = len(ids)
    starts = np.arange(1, chunks) * length // chunks if cuts is None else np.flatnonzero(np.isin(ids, cuts))
    # A first chunk of a token or two would be no chunk.
    starts = np.unique(starts[starts >= 2])
    positions = np.arange(length, dtype=np.int64)
    left = context - length
    for start in starts:
        jump = int(random.integers(0, left, endpoint=True))
        positions[start:] += jump
        left -= jump
    return positions
