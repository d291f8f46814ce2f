"""Batches in which the texts of a row are one text: each sees those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from newt.data.collate import Sample, rounded
from newt.data.rows import IGNORE


@dataclass(frozen=True)
class JoinedCollator:
    """Batches of rows that hold several texts, one behind the other.

    Attributes:
        pad_token_id: fills a row.
        length: tokens of every row; None: those of the longest.
        multiple: without ``length``, rows are padded to a multiple of this.
        separated: one padding token stands between two texts; it is not seen and not trained.
        one_row: all bins of the batch stand in one row.
    """

    pad_token_id: int
    length: int | None = None
    multiple: int | None = None
    separated: bool = False
    one_row: bool = False

    def __call__(self, bins: Sequence[Sequence[Sample]]) -> dict[str, Tensor]:
        """Make a batch of bins of samples with ``input_ids`` and ``labels``.

        Returns:
            ``input_ids``, ``attention_mask``, ``labels``: int64 (bins, length); labels are -100 at the first token of
            each row and in the padding.

        Raises:
            ValueError: a row is longer than ``length``.
        """
        gap = int(self.separated)
        bins = [[sample for samples in bins for sample in samples]] if self.one_row else bins
        longest = max(sum(len(sample["input_ids"]) + gap for sample in samples) - gap for samples in bins)
        if self.length is not None and longest > self.length:
            raise ValueError(f"a bin of {longest} tokens does not fit into {self.length}")
        shape = (len(bins), self.length or rounded(longest, self.multiple))
        ids = np.full(shape, self.pad_token_id, np.int64)
        labels = np.full(shape, IGNORE, np.int64)
        mask = np.zeros(shape, np.int64)
        for row, samples in enumerate(bins):
            start = 0
            for sample in samples:
                end = start + len(sample["input_ids"])
                ids[row, start:end], labels[row, start:end] = sample["input_ids"], sample["labels"]
                mask[row, start:end] = 1
                start = end + gap
        labels[:, 0] = IGNORE
        arrays = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
