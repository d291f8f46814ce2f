"""From token rows to the tensors of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from newt.data.masks import isolating_inputs
from newt.data.rows import IGNORE
from newt.rows import Isolation

Sample = Mapping[str, np.ndarray]
Side = Literal["right", "left"]


def rounded(length: int, multiple: int | None) -> int:
    """The next multiple."""
    return -(-length // multiple) * multiple if multiple else length


@dataclass(frozen=True)
class PackedCollator:
    """Batches of rows that hold several samples.

    There is no attention mask, unless the isolation asks for one: transformers keeps samples apart by ``position_ids``
    only when no mask is given (and ``use_cache`` is off). Padding is a document of its own, so that no sample sees it.

    Attributes:
        pad_token_id: fills a row.
        length: tokens of every row; None: those of the longest.
        multiple: without ``length``, rows are padded to a multiple of this.
        side: where the padding stands.
        one_row: all bins of the batch stand in one row.
        isolation: how samples are kept apart.
    """

    pad_token_id: int
    length: int | None = None
    multiple: int | None = None
    side: Side = "right"
    one_row: bool = False
    isolation: Isolation = field(default_factory=Isolation)

    def __call__(self, bins: Sequence[Sequence[Sample]]) -> dict[str, Any]:
        """Make a batch of bins of samples with ``input_ids``, ``labels`` and perhaps ``position_ids``.

        Returns:
            ``input_ids``, ``labels``, ``position_ids``: int64 (rows, length), and what the isolation needs. Positions
            restart at each sample and at the padding; labels are -100 at the first token of each sample and in the
            padding.

        Raises:
            ValueError: a row is longer than ``length``.
        """
        rows = [[sample for samples in bins for sample in samples]] if self.one_row else bins
        batch = _Arrays.for_rows([sum(map(_length, samples)) for samples in rows], "bin", self)
        for row, samples in enumerate(rows):
            start = batch.starts[row]
            for sample in samples:
                batch.put(row, start, sample)
                start += _length(sample)
        positions = torch.from_numpy(batch.positions)
        return {**batch.tensors(), "position_ids": positions, **isolating_inputs(self.isolation, positions)}


@dataclass(frozen=True)
class PaddedCollator:
    """Batches of one sample a row.

    Attributes:
        pad_token_id: fills a row.
        multiple: rows are padded to a multiple of this; None: to the longest.
        length: tokens of every row; None: as above.
        side: where the padding stands.
    """

    pad_token_id: int
    multiple: int | None = None
    length: int | None = None
    side: Side = "right"

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Make a batch of samples with ``input_ids``, ``labels`` and perhaps ``position_ids``.

        Returns:
            ``input_ids``, ``attention_mask``, ``labels``: int64 (samples, length); labels are -100 at the first token
            and in the padding. ``position_ids`` where the samples have them, or the padding stands on the left.

        Raises:
            ValueError: a sample is longer than ``length``.
        """
        batch = _Arrays.for_rows([_length(sample) for sample in samples], "sample", self)
        mask = np.zeros(batch.ids.shape, np.int64)
        for row, sample in enumerate(samples):
            start = batch.starts[row]
            batch.put(row, start, sample)
            mask[row, start : start + _length(sample)] = 1
        tensors = {**batch.tensors(), "attention_mask": torch.from_numpy(mask)}
        # Without them the first token of a row that is padded on the left would not stand at position 0.
        if self.side == "left" or any("position_ids" in sample for sample in samples):
            tensors["position_ids"] = torch.from_numpy(batch.positions)
        return tensors


def _length(sample: Sample) -> int:
    return len(sample["input_ids"])


@dataclass(frozen=True)
class _Arrays:
    """The arrays of a batch, int64 (rows, length), at first nothing but padding, and where each row begins."""

    ids: np.ndarray
    labels: np.ndarray
    positions: np.ndarray
    starts: Sequence[int]

    @classmethod
    def for_rows(cls, lengths: Sequence[int], what: str, shape: PackedCollator | PaddedCollator) -> _Arrays:
        longest = max(lengths)
        if shape.length is not None and longest > shape.length:
            raise ValueError(f"a {what} of {longest} tokens does not fit into {shape.length}")
        size = (len(lengths), shape.length or rounded(longest, shape.multiple))
        positions = np.empty(size, np.int64)
        starts = []
        for row, length in enumerate(lengths):
            padding = size[1] - length
            starts.append(padding if shape.side == "left" else 0)
            place = slice(0, padding) if shape.side == "left" else slice(length, None)
            positions[row, place] = np.arange(padding)
        return cls(np.full(size, shape.pad_token_id, np.int64), np.full(size, IGNORE, np.int64), positions, starts)

    def put(self, row: int, start: int, sample: Sample) -> None:
        """Write a sample. Its first label is left out: no token of the sample stands before it."""
        end = start + _length(sample)
        self.ids[row, start:end] = sample["input_ids"]
        self.labels[row, start + 1 : end] = sample["labels"][1:]
        given = sample.get("position_ids")
        self.positions[row, start:end] = np.arange(end - start) if given is None else given

    def tensors(self) -> dict[str, Tensor]:
        """``input_ids`` and ``labels``."""
        return {"input_ids": torch.from_numpy(self.ids), "labels": torch.from_numpy(self.labels)}
