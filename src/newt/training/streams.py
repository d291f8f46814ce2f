"""Micro-batches of streamed rows: which rank gets which, how they are fetched ahead, and where a run goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from newt.config.core import Loader
from newt.data.block import Position, Sample
from newt.data.stream import Stream
from newt.support.errors import CheckpointError, NewtError
from newt.support.log import note
from newt.training.batches import Collate, Place

DRAWN = "stream"
"""Batch key: the :class:`Drawn` that the batch was made of. Taken out before the model sees the batch."""

AHEAD = 4
"""Batches that the reading process prepares ahead, where the config names no number."""


class Drawn(NamedTuple):
    """One micro-batch of a rank.

    Attributes:
        samples: lists of token rows.
        after: place in the stream behind the micro-batches of all ranks of this turn.
        read: place up to which rows were read and counted.
        error: why there are no samples.
    """

    samples: Sequence[Sequence[Sample]] = ()
    after: Position | None = None
    read: Position | None = None
    error: NewtError | None = None


class StreamBatches(Dataset[Drawn]):
    """The micro-batches of one rank, which must be asked for in their order.

    All ranks read the same samples and take turns: rank r of w gets micro-batches r, r + w, r + 2 w and so on. A step
    therefore trains the same samples on one process with two micro-batches and on two processes with one.
    """

    def __init__(self, sampler: StreamSampler) -> None:
        self.sampler = sampler
        self._turns: Iterator[Drawn] | None = None
        self._next = -1

    def __len__(self) -> int:
        return len(self.sampler)

    def __getitem__(self, index: int) -> Drawn:
        if self._turns is None or index == self.sampler.done:
            self._turns, self._next = self._read(), self.sampler.done
        assert index == self._next, "a stream is read in its order"
        self._next += 1
        # Exceptions lose their kind on the way from another process.
        try:
            return next(self._turns)
        except NewtError as error:
            return Drawn(error=error)

    def _read(self) -> Iterator[Drawn]:
        place, micro = self.sampler.place, self.sampler.micro
        samples: list[list[Sample]] = []
        for sample, after, read in self.sampler.stream.samples(self.sampler.position):
            samples.append(sample)
            if len(samples) == micro * place.world:
                yield Drawn(samples[micro * place.rank : micro * (place.rank + 1)], after, read)
                samples = []


class StreamSampler:
    """Numbers of the micro-batches of one rank, and the place in the stream that the training has reached.

    Args:
        stream: the rows.
        micro: samples of a micro-batch.
        batches: micro-batches of the run on this rank.
        place: rank of this process, and their number.

    Attributes:
        done: micro-batches that were trained before this part of the run.
        position: where the next one begins.
    """

    def __init__(self, stream: Stream, micro: int, batches: int, place: Place) -> None:
        self.stream, self.micro, self.batches, self.place = stream, micro, batches, place
        self.done = 0
        self.position = stream.start
        self.reached = self.position
        self.taken = 0
        self._passes = [0] * len(stream.entries)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        return ([index] for index in range(self.batches))

    def set_epoch(self, epoch: int) -> None:
        """The stream knows by itself when a dataset begins again."""

    def loader(self, collate: Collate, **options: Any) -> DataLoader[Any]:
        """A loader of these micro-batches. One process reads them, however many are allowed."""
        wanted = self.stream.plan.cfg[Loader].dataloader_num_workers
        # Forking is safe on Linux only; elsewhere the rows are read by a thread of this process.
        workers = min(1 if wanted is None else wanted, 1) if sys.platform.startswith("linux") else 0
        options.pop("num_workers", None)
        ahead = options.pop("prefetch_factor", None) or AHEAD
        if workers:
            options["prefetch_factor"] = ahead
        generator = torch.Generator().manual_seed(self.stream.recipe.seed)
        return DataLoader(
            StreamBatches(self),
            batch_sampler=self,
            collate_fn=_CollateDrawn(collate),
            generator=generator,
            num_workers=workers,
            **options,
        )

    # ------------------------------------------------------------------ where it stands

    def take(self, batches: Sequence[dict[str, Any]]) -> None:
        """Note how far the stream is used up.

        Raises:
            NewtError: a row could not be used.
        """
        for batch in batches:
            drawn: Drawn = batch.pop(DRAWN)
            if drawn.error is not None:
                raise drawn.error
            assert drawn.after is not None
            self.reached, self.stream.reported = drawn.after, drawn.read
            self.taken += 1
        for number, cursor in enumerate(self.reached.cursors):
            if cursor.passes > self._passes[number]:
                self._passes[number] = cursor.passes
                path = self.stream.entries[number].path
                note(f"{path}: pass {cursor.passes} ended, it begins again.")

    def log(self) -> dict[str, int]:
        """Rows that were read of the stream so far, and token rows that were dropped."""
        counts = (self.stream.reported or self.reached).counts
        dropped = ("too_long", "too_short", "nothing_to_train")
        return {
            "stream_rows": sum(count.get("rows", 0) for count in counts),
            "stream_dropped": sum(count.get(reason, 0) for count in counts for reason in dropped),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, JSON-ready."""
        return {"micro_batches": self.done + self.taken, "position": self.reached.to_dict()}

    def resume(self, stored: Mapping[str, Any], batches: int) -> None:
        """Go on where a checkpoint was written.

        Args:
            stored: what ``state`` gave then.
            batches: micro-batches of this rank that the checkpoint's steps had.

        Raises:
            CheckpointError: the numbers do not agree.
        """
        if stored.get("micro_batches") != batches:
            raise CheckpointError(
                f"the checkpoint stands at micro-batch {stored.get('micro_batches')} of the stream, its steps need "
                f"{batches}. Start anew in another output_dir."
            )
        self.done, self.taken = batches, 0
        self.position = self.reached = Position.from_dict(stored["position"])
        self._passes = [cursor.passes for cursor in self.position.cursors]


class _CollateDrawn:
    """Makes a batch, and lets the place in the stream travel with it."""

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, drawn: Sequence[Drawn]) -> dict[str, Any]:
        (one,) = drawn
        batch = {} if one.error is not None else self.collate([list(sample) for sample in one.samples])
        return {**batch, DRAWN: one._replace(samples=())}
