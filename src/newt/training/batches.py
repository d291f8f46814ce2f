"""Which rows make a batch: the order depends on the seed and the epoch alone, so that a run can be taken up again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from newt.extend import Packer
from newt.losses.causal import IGNORED, POSITIONS, trained_positions

TOKENS = "num_tokens"
"""Batch key: number of tokens without padding, an int. Taken out before the model sees the batch."""

Sample = Mapping[str, np.ndarray]


class TokenData(Protocol):
    """Rows of token ids: ``data[i]`` has ``input_ids`` and ``labels``, both (length,) int32."""

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) int32."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class Pick(NamedTuple):
    """One sample of a batch.

    Attributes:
        rows: numbers of its rows; several when it is packed.
        filler: it only keeps the ranks in step, none of its tokens is trained.
    """

    rows: tuple[int, ...]
    filler: bool = False


class Place(NamedTuple):
    """Which of the training processes this one is."""

    rank: int = 0
    world: int = 1


ALONE = Place()
"""One process."""


class BatchSampler:
    """The micro-batches of one rank, one epoch at a time.

    Ranks take turns in one global order of micro-batches. Where the last turn is not full, the remaining ranks get a
    batch that trains nothing, so that all ranks do the same number and no row counts twice.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        micro: int,
        *,
        seed: int,
        packer: Packer | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        place: Place = ALONE,
    ) -> None:
        """Plan epoch 0.

        Args:
            lengths: (rows,) int32.
            micro: samples in a micro-batch.
            seed: of all orders.
            packer: makes samples of several rows.
            shuffle: a new order of samples in every epoch; otherwise the order of the rows.
            drop_last: leave out the last micro-batch when it is smaller, or when not every rank has one.
            place: rank of this process, and their number.
        """
        self.lengths, self.micro, self.seed, self.packer = lengths, micro, seed, packer
        self.shuffle, self.drop_last, self.place = shuffle, drop_last, place
        self.epoch = 0
        self._plan(0)
        samples = len(self._order)
        self.global_batches = samples // micro if drop_last else -(-samples // micro)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch: pack the rows anew, and shuffle the samples."""
        if epoch == self.epoch:
            return
        samples = len(self._order)
        self._plan(epoch)
        # The number of steps is fixed before the first epoch; a packer with another answer would lose rows silently.
        assert len(self._order) == samples, "the packer must give the same number of bins in every epoch"
        self.epoch = epoch

    def _plan(self, epoch: int) -> None:
        self._rows: np.ndarray
        self._offsets: np.ndarray
        if self.packer is None:
            self._rows, self._offsets = np.arange(len(self.lengths)), np.arange(len(self.lengths) + 1)
        else:
            seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
            self._rows, self._offsets = self.packer(self.lengths, seed)
        samples = len(self._offsets) - 1
        rng = np.random.default_rng([self.seed, epoch])
        self._order: np.ndarray = rng.permutation(samples) if self.shuffle else np.arange(samples)

    def __len__(self) -> int:
        """Micro-batches of this rank in an epoch."""
        if self.drop_last:
            return self.global_batches // self.place.world
        return -(-self.global_batches // self.place.world)

    def __getitem__(self, index: int) -> list[Pick]:
        """Micro-batch ``index`` of the epoch, in constant time."""
        number = index * self.place.world + self.place.rank
        filler = number >= self.global_batches
        begin = 0 if filler else number * self.micro
        return [
            Pick(tuple(self._rows[self._offsets[i] : self._offsets[i + 1]].tolist()), filler)
            for i in self._order[begin : begin + self.micro]
        ]

    def __iter__(self) -> Iterator[list[Pick]]:
        return (self[index] for index in range(len(self)))

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return int(self.lengths.sum(dtype=np.int64))


class Picked(Dataset[list[Sample]]):
    """Looks up the rows of a pick."""

    def __init__(self, data: TokenData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, pick: Pick) -> list[Sample]:
        samples = [self.data[row] for row in pick.rows]
        if pick.filler:
            samples = [{**sample, "labels": np.full_like(sample["labels"], IGNORED)} for sample in samples]
        return samples


class Collate:
    """Makes a batch of picked rows, and adds what the loop wants to know about it before it is on the device."""

    def __init__(self, collator: Callable[[Sequence[Any]], dict[str, Any]], packed: bool) -> None:
        """Keep the collator: of bins (lists of samples) if ``packed``, else of samples."""
        self.collator, self.packed = collator, packed

    def __call__(self, picked: Sequence[list[Sample]]) -> dict[str, Any]:
        """Collate, count the tokens and find the trained positions."""
        batch = dict(self.collator(picked if self.packed else [samples[0] for samples in picked]))
        batch[TOKENS] = sum(len(sample["input_ids"]) for samples in picked for sample in samples)
        labels = batch.get("labels")
        if isinstance(labels, Tensor) and labels.dim() == 2:
            batch[POSITIONS] = trained_positions(labels)
        return batch


def make_loader(data: TokenData, sampler: BatchSampler, collate: Collate, **options: Any) -> DataLoader[Any]:
    """A loader of the sampler's batches.

    Args:
        data: the rows.
        sampler: chooses them.
        collate: makes the batches.
        **options: ``num_workers``, ``pin_memory``, ``prefetch_factor`` of the DataLoader.
    """
    # Its own generator: the loader must not draw from the global one, whose state a checkpoint keeps for dropout.
    generator = torch.Generator().manual_seed(sampler.seed)
    return DataLoader(Picked(data), batch_sampler=sampler, collate_fn=collate, generator=generator, **options)
