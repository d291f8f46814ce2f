"""Batches of rows of similar length."""

from __future__ import annotations

from typing import Any

import numpy as np

from newt.training.batches import BatchSampler

_BATCHES = 50
"""Micro-batches among whose rows the similar ones are looked for."""


class LengthGrouped(BatchSampler):
    """Shuffled micro-batches whose samples are about equally long, so that little is padded.

    The arguments are those of :class:`BatchSampler`. The order is that of the ``LengthGroupedSampler`` of transformers:
    shuffled samples, cut into groups of 50 micro-batches (fewer when there are not four such groups), sorted inside
    each group from long to short. The longest sample of all comes first, so that memory runs out at once if it does.
    """

    def _plan(self, epoch: int) -> None:
        super()._plan(epoch)
        lengths = np.add.reduceat(self.lengths[self._rows], self._offsets[:-1]) if len(self._rows) else self.lengths
        self._order = grouped(self._order, lengths, self.micro)


def grouped(order: np.ndarray, lengths: np.ndarray, micro: int) -> np.ndarray:
    """Sort samples inside groups.

    Args:
        order: shuffled samples, int64 (samples,).
        lengths: tokens of each sample, (samples,).
        micro: samples in a micro-batch.

    Returns:
        int64 (samples,), a permutation of ``order``.
    """
    if not len(order):
        return order
    size = micro * (min(len(order) // (micro * 4), _BATCHES) or 1)
    groups = np.arange(len(order)) // size
    of_order = lengths[order].astype(np.int64)
    # The last key counts first: by group, then from long to short; lexsort leaves equal samples in their order.
    ranked: Any = order[np.lexsort((-of_order, groups))]
    # Every group begins with its longest.
    heads = np.arange(0, len(ranked), size)
    longest = heads[np.argmax(lengths[ranked[heads]])]
    ranked[[0, longest]] = ranked[[longest, 0]]
    return np.asarray(ranked)
