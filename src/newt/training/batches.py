"""Which rows make a batch: the order depends on the seed and the epoch alone, so that a run can be taken up again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from newt.data.cost import Cost, balanced_order
from newt.extend import Packer, Transform
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
        epoch: in which it is picked.
    """

    rows: tuple[int, ...]
    filler: bool = False
    epoch: int = 0


class Place(NamedTuple):
    """Which of the training processes this one is.

    Attributes:
        rank: its number.
        world: how many there are.
        cost: of micro-batches, so that those of one turn are alike; None: the order does not look at it.
    """

    rank: int = 0
    world: int = 1
    cost: Cost | None = None


ALONE = Place()
"""One process."""


class BatchSampler:
    """The micro-batches of one rank, one epoch at a time.

    Ranks take turns in one global order of micro-batches. Where the last turn is not full, the remaining ranks get a
    batch that trains nothing, so that all ranks do the same number and no row counts twice. With a cost, the ranks get
    micro-batches of nearly the same cost in each turn, so that none waits for another.
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
        self._passed = 0
        self._plan(0)
        self._share(0)

    def set_epoch(self, epoch: int) -> None:
        """Go to an epoch: pack the rows anew, and shuffle the samples."""
        if epoch == self.epoch:
            return
        samples = len(self._order)
        self._plan(epoch)
        # The number of steps is fixed before the first epoch; a packer with another answer would lose rows silently.
        assert len(self._order) == samples, "the packer must give the same number of bins in every epoch"
        self._share(epoch)
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

    def _share(self, epoch: int) -> None:
        """Decide which micro-batches meet in a turn."""
        samples, place = len(self._order), self.place
        self.global_batches = samples // self.micro if self.drop_last else -(-samples // self.micro)
        self._turns: np.ndarray = np.arange(self.global_batches)
        if place.cost is not None and self.shuffle and place.world > 1 and samples:
            costs = self._costs(place.cost)[: self.global_batches]
            # A generator of its own, so that the order of samples does not depend on the number of ranks.
            self._turns = balanced_order(costs, place.world, np.random.default_rng([self.seed, epoch, place.world]))

    def _costs(self, cost: Cost) -> np.ndarray:
        """Cost of each micro-batch, (batches,), in the order of the samples."""
        sizes = np.diff(self._offsets)[self._order]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        # Where in _rows the rows of each sample stand, sample after sample.
        places = np.repeat(self._offsets[self._order] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return cost.of_batches(self.lengths[self._rows[places]], offsets, self.micro)

    def __len__(self) -> int:
        """Micro-batches of this rank in an epoch."""
        if self.drop_last:
            return self.global_batches // self.place.world
        return -(-self.global_batches // self.place.world)

    def __getitem__(self, index: int) -> list[Pick]:
        """Micro-batch ``index`` of the epoch, in constant time."""
        number = index * self.place.world + self.place.rank
        filler = number >= self.global_batches
        # The last micro-batch may be smaller: as a filler it costs least.
        begin = (self.global_batches - 1 if filler else int(self._turns[number])) * self.micro
        return [
            Pick(tuple(self._rows[self._offsets[i] : self._offsets[i + 1]].tolist()), filler, self.epoch)
            for i in self._order[begin : begin + self.micro]
        ]

    def skip(self, batches: int) -> None:
        """Say that who iterates next passes over its first micro-batches: they are empty, and cost nothing to make."""
        self._passed = batches

    def __iter__(self) -> Iterator[list[Pick]]:
        passed, self._passed = self._passed, 0
        return chain(repeat([], passed), (self[index] for index in range(passed, len(self))))

    @property
    def samples(self) -> int:
        """Rows, or bins of rows."""
        return len(self._order)

    @property
    def sample_lengths(self) -> np.ndarray:
        """Tokens of each sample in the order of the epoch, int64 (samples,)."""
        tokens = np.add.reduceat(self.lengths[self._rows].astype(np.int64), self._offsets[:-1])
        return np.asarray(tokens[self._order])

    @property
    def left_out(self) -> int:
        """Samples that no rank gets in an epoch: those that ``drop_last`` leaves out."""
        return max(0, self.samples - len(self) * self.place.world * self.micro)

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return int(self.lengths.sum(dtype=np.int64))


class Picked(Dataset[list[Sample]]):
    """Looks up the rows of a pick, and transforms them."""

    def __init__(self, data: TokenData, transforms: Sequence[Transform] = ()) -> None:
        self.data, self.transforms = data, tuple(transforms)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, pick: Pick) -> list[Sample]:
        samples = [self._row(row, pick.epoch) for row in pick.rows]
        if pick.filler:
            samples = [{**sample, "labels": np.full_like(sample["labels"], IGNORED)} for sample in samples]
        return samples

    def _row(self, row: int, epoch: int) -> Sample:
        sample: Sample = self.data[row]
        for transform in self.transforms:
            sample = transform(sample, row, epoch)
        return sample


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


def make_loader(
    data: TokenData, sampler: BatchSampler, collate: Collate, transforms: Sequence[Transform] = (), **options: Any
) -> DataLoader[Any]:
    """A loader of the sampler's batches.

    Args:
        data: the rows.
        sampler: chooses them.
        collate: makes the batches.
        transforms: change rows when they are picked.
        **options: ``num_workers``, ``pin_memory``, ``prefetch_factor`` of the DataLoader.
    """
    # Its own generator: the loader must not draw from the global one, whose state a checkpoint keeps for dropout.
    generator = torch.Generator().manual_seed(sampler.seed)
    return DataLoader(
        Picked(data, transforms), batch_sampler=sampler, collate_fn=collate, generator=generator, **options
    )
