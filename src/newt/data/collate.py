"""From token rows to the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from newt.data.rows import IGNORE

Sample = Mapping[str, np.ndarray]


def _rounded(length: int, multiple: int | None) -> int:
    return -(-length // multiple) * multiple if multiple else length


def _fill_labels(into: np.ndarray, labels: np.ndarray) -> None:
    """Copy labels, but the first: the token before it belongs to another sample, or is not there."""
    into[1 : len(labels)] = labels[1:]


@dataclass(frozen=True)
class PackedCollator:
    """Batches of packed rows.

    There is no attention mask: transformers keeps samples apart by ``position_ids`` only when no mask is given (and
    ``use_cache`` is off). Padding is a document of its own, so that no sample sees it.

    Attributes:
        pad_token_id: fills the end of a row.
        length: tokens of every row; None: those of the longest bin.
        multiple: without ``length``, rows are padded to a multiple of this.
    """

    pad_token_id: int
    length: int | None = None
    multiple: int | None = None

    def __call__(self, bins: Sequence[Sequence[Sample]]) -> dict[str, Tensor]:
        """Make a batch of bins of samples with ``input_ids`` and ``labels``.

        Returns:
            ``input_ids``, ``labels``, ``position_ids``: int64 (bins, length). Positions restart at each sample and at
            the padding; labels are -100 at the first token of each sample and in the padding.

        Raises:
            ValueError: a bin is longer than ``length``.
        """
        longest = max(sum(len(sample["input_ids"]) for sample in samples) for samples in bins)
        if self.length is not None and longest > self.length:
            raise ValueError(f"a bin of {longest} tokens does not fit into {self.length}")
        shape = (len(bins), self.length or _rounded(longest, self.multiple))
        ids = np.full(shape, self.pad_token_id, np.int64)
        labels = np.full(shape, IGNORE, np.int64)
        positions = np.empty(shape, np.int64)
        for row, samples in enumerate(bins):
            start = 0
            for sample in samples:
                end = start + len(sample["input_ids"])
                ids[row, start:end] = sample["input_ids"]
                _fill_labels(labels[row, start:end], sample["labels"])
                positions[row, start:end] = np.arange(end - start)
                start = end
            positions[row, start:] = np.arange(shape[1] - start)
        return _tensors(input_ids=ids, labels=labels, position_ids=positions)


@dataclass(frozen=True)
class PaddedCollator:
    """Batches of one sample a row, padded on the right.

    Attributes:
        pad_token_id: fills the end of a row.
        multiple: rows are padded to a multiple of this; None: to the longest.
        length: tokens of every row; None: as above.
    """

    pad_token_id: int
    multiple: int | None = None
    length: int | None = None

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Make a batch of samples with ``input_ids`` and ``labels``.

        Returns:
            ``input_ids``, ``attention_mask``, ``labels``: int64 (samples, length); labels are -100 at the first token
            and in the padding.

        Raises:
            ValueError: a sample is longer than ``length``.
        """
        longest = max(len(sample["input_ids"]) for sample in samples)
        if self.length is not None and longest > self.length:
            raise ValueError(f"a sample of {longest} tokens does not fit into {self.length}")
        shape = (len(samples), self.length or _rounded(longest, self.multiple))
        ids = np.full(shape, self.pad_token_id, np.int64)
        labels = np.full(shape, IGNORE, np.int64)
        mask = np.zeros(shape, np.int64)
        for row, sample in enumerate(samples):
            end = len(sample["input_ids"])
            ids[row, :end] = sample["input_ids"]
            _fill_labels(labels[row, :end], sample["labels"])
            mask[row, :end] = 1
        return _tensors(input_ids=ids, attention_mask=mask, labels=labels)


def _tensors(**arrays: np.ndarray) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
