"""Training rows that are read, tokenized, shuffled and packed while the model trains, in bounded memory.

The rows come in blocks of up to ``streaming_multipack_buffer_size`` rows; each is made while the one before it is
trained. The first ones are small, so that training begins at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from multiprocessing.util import Finalize
from threading import Event
from typing import Any

import numpy as np

from newt.config.core import Batch, Data, RunControl
from newt.data.block import FIRST_TOKENS, Block, Filling, Mix, Position, Recipe, Sample
from newt.data.cursor import Cursor, RowStream
from newt.data.encode import Encoder
from newt.data.sources import read
from newt.data.summary import DatasetSummary, Summary, histogram
from newt.extend import DataPlan

_SETTINGS = ("shuffle_merged_datasets", "excess_length_strategy", "min_sample_len", "weight_by")
"""Keys of ``Data`` that decide which rows come, and when."""


class Stream:
    """The training rows of a run.

    Args:
        plan: formats, settings, packer and buffer size.
        tokenizer: a fast tokenizer of transformers.

    Attributes:
        reported: position up to which the rows are counted in the summary; None: behind the first block.
    """

    def __init__(self, plan: DataPlan, tokenizer: Any) -> None:
        self.plan = plan
        self.tokenizer = tokenizer
        self.data = plan.cfg[Data]
        self.entries = [fmt.entry for fmt in plan.formats]
        self.reported: Position | None = None

    @cached_property
    def recipe(self) -> Recipe:
        """What the blocks are made of.

        Raises:
            DataError: a dataset cannot be read.
        """
        plan, length = self.plan, self.plan.cfg[Batch].sequence_len
        sources = [
            fmt.source(self.tokenizer) or read(fmt.entry, default_split="train", cfg=plan.cfg, stream=True)
            for fmt in plan.formats
        ]
        return Recipe(
            rows=[
                RowStream(source, getattr(entry, "skip", None) or 0)
                for source, entry in zip(sources, self.entries, strict=True)
            ],
            encoders=[Encoder(plan, self.tokenizer, fmt, length, "sequence_len") for fmt in plan.formats],
            mix=Mix(self.entries, self.data.weight_by),
            buffer=plan.stream.get() or 1,
            shuffled=self.data.shuffle_merged_datasets and not plan.keep_order,
            # Some sequences at least, so that they are packed well.
            first_tokens=max(FIRST_TOKENS, 4 * length),
            pack=plan.pack.get(),
            transforms=plan.transforms,
            seed=plan.cfg[RunControl].seed,
        )

    @property
    def start(self) -> Position:
        """Where the stream begins."""
        number = len(self.entries)
        return Position(0, (Cursor(),) * number, (), ({},) * number, ({},) * number)

    @cached_property
    def first(self) -> Block:
        """The first block. Making it shows mistakes that concern every row, before a model is loaded.

        Raises:
            DataError: a row cannot be used.
            NewtError: a dataset has nothing to train.
        """
        return self._build(self.start, Event())

    def samples(self, position: Position) -> Iterator[tuple[list[Sample], Position, Position]]:
        """All samples from a position on, without end. Close the iterator to end its thread.

        Yields:
            (token rows of the sample, position behind it, position behind its block).

        Raises:
            DataError: a row cannot be used; the samples of the blocks before it came already.
        """
        stop = Event()
        # A process that ends would otherwise wait for a block that nobody wants.
        Finalize(None, stop.set, exitpriority=0)
        first, begin = position.sample, Position(**{**vars(position), "sample": 0})
        with ThreadPoolExecutor(1) as thread:
            try:
                ahead = thread.submit(self._block, begin, stop)
                while True:
                    block = ahead.result()
                    ahead = thread.submit(self._block, block.end, stop)
                    for sample, after in block.samples(first):
                        yield sample, after, block.end
                    first = 0
            finally:
                stop.set()

    def _block(self, position: Position, stop: Event) -> Block:
        made: Block | None = self.__dict__.get("first")
        return made if made is not None and made.begin == position else self._build(position, stop)

    def _build(self, position: Position, stop: Event) -> Block:
        filling = Filling(self.recipe, position, stop)
        filling.fill()
        return filling.block()

    # ------------------------------------------------------------------ what is told about it

    @cached_property
    def identity(self) -> str:
        """Hash of the first rows, and of the settings that decide about the others."""
        settings: list[Any] = [{key: getattr(self.data, key) for key in _SETTINGS}, self.recipe.buffer]
        places = {"path", "data_files", "storage_options"}
        settings += [entry.model_dump(mode="json", exclude=places) for entry in self.entries]
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        for row in self.first.rows:
            digest.update(row["input_ids"].tobytes() + row["labels"].tobytes())
        return digest.hexdigest()

    @property
    def summary(self) -> Summary:
        """What became of the rows that were read so far; the lengths are those of the first block."""
        position = self.reported or self.first.end
        found = [self._summary_of(number, position) for number in range(len(self.entries))]
        lengths = np.array([len(row["input_ids"]) for row in self.first.rows], np.int64)
        edges, counts = histogram(lengths)
        rows, passes = sum(entry.rows for entry in found), max(cursor.passes for cursor in position.cursors)
        again = f"; passes that ended: {passes}" if passes else ""
        return Summary(
            datasets=found,
            train_rows=sum(entry.kept for entry in found),
            eval_rows=0,
            train_tokens=sum(entry.tokens for entry in found),
            trained_tokens=sum(entry.trained for entry in found),
            longest=int(lengths.max(initial=0)),
            length_edges=edges,
            length_counts=counts,
            notes=[f"streamed: these are the numbers of the {rows:,} rows that were read so far{again}"],
        )

    def _summary_of(self, number: int, position: Position) -> DatasetSummary:
        counts: dict[str, Any] = {"rows": 0, "kept": 0, "tokens": 0, **position.counts[number]}
        counts.update(used=counts["kept"], used_tokens=counts["tokens"])
        path, name = self.entries[number].path, self.plan.formats[number].name
        return DatasetSummary(path, name, "train", notes=dict(sorted(position.notes[number].items())), **counts)
