"""Blocks of a stream: rows that are read, tokenized, shuffled and packed at once.

A block depends on the place where it begins, its number and the seed alone, so that a run can be taken up again at any
micro-batch: its position is a few numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from threading import Event
from typing import Any

import numpy as np

from newt.config.core import Dataset
from newt.data.control import join_notes
from newt.data.cursor import Cursor, RowStream
from newt.data.encode import Encoded, Encoder
from newt.extend import Packer, Transform
from newt.support.errors import DataError, NewtError

FIRST_TOKENS = 1 << 17
"""Tokens of the first block: a fraction of a second of tokenizing. Each may hold twice those of the one before."""
MOST_TOKENS = 1 << 25
"""A block ends here even if it has few rows, so that memory stays bounded: 8 bytes a token."""
MOST_AT_ONCE = 64
"""Rows that are tokenized in one call."""

Sample = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Position:
    """A place in the stream of samples; ``to_dict`` and ``from_dict`` for JSON.

    Attributes:
        block: number of the block.
        cursors: where it begins in each dataset.
        ended: datasets that it does not read, because they ended before the others did.
        counts: for each dataset, what became of the rows before the block.
        notes: for each dataset, what the tokenizer found odd in them.
        sample: samples of the block that are used up.
    """

    block: int
    cursors: tuple[Cursor, ...]
    ended: tuple[int, ...]
    counts: tuple[Mapping[str, int], ...]
    notes: tuple[Mapping[str, int], ...]
    sample: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Position:
        """The inverse of ``to_dict``."""
        fields = {key: tuple(stored[key]) for key in ("ended", "counts", "notes")}
        cursors = tuple(Cursor(**cursor) for cursor in stored["cursors"])
        return cls(block=stored["block"], cursors=cursors, sample=stored["sample"], **fields)


@dataclass(frozen=True)
class Block:
    """Samples that were made at once.

    Attributes:
        begin: where it begins.
        end: where the next one begins.
        rows: its token rows.
        bins: numbers of the rows of each sample, in the order in which the samples are used.
    """

    begin: Position
    end: Position
    rows: Sequence[Sample]
    bins: Sequence[np.ndarray]

    def samples(self, first: int) -> Iterator[tuple[list[Sample], Position]]:
        """Samples from a number on, each with the position behind it."""
        for number in range(first, len(self.bins)):
            yield [self.rows[row] for row in self.bins[number]], replace(self.begin, sample=number + 1)


@dataclass(frozen=True)
class Mix:
    """How often each dataset is drawn from.

    Attributes:
        entries: of the datasets.
        weight_by: as in the config.
    """

    entries: Sequence[Dataset]
    weight_by: str | None

    @property
    def weighted(self) -> bool:
        """Whether the weights hold all the time; otherwise a pass reads each row once."""
        return self.weight_by is not None or any(entry.weight is not None for entry in self.entries)

    def shares(self, counts: Sequence[Mapping[str, int]], ended: Sequence[int]) -> np.ndarray:
        """Probability that the next row comes from each dataset, float64 (datasets,).

        Args:
            counts: rows and tokens that were read of each.
            ended: datasets that are not read now.
        """
        shares: np.ndarray = np.array([1.0 if entry.weight is None else entry.weight for entry in self.entries])
        if self.weight_by == "tokens" and all(count.get("tokens") for count in counts):
            shares *= [count["rows"] / count["tokens"] for count in counts]
        shares[list(ended)] = 0
        shares /= shares.sum()
        return shares


@dataclass(frozen=True)
class Recipe:
    """What blocks are made of.

    Attributes:
        rows: the datasets.
        encoders: of each.
        mix: of them.
        buffer: most rows of a block.
        shuffled: whether the samples of a block are shuffled.
        first_tokens: tokens of the first block.
        pack: makes samples of several rows.
        transforms: change token rows.
        seed: of all draws.
    """

    rows: Sequence[RowStream]
    encoders: Sequence[Encoder]
    mix: Mix
    buffer: int
    shuffled: bool
    first_tokens: int
    pack: Packer | None
    transforms: Sequence[Transform]
    seed: int


class Filling:
    """A block while it is made.

    Args:
        recipe: what it is made of; its datasets go to the place where the block begins.
        position: where it begins.
        stop: ends the work early; the block is of no use then.
    """

    def __init__(self, recipe: Recipe, position: Position, stop: Event) -> None:
        self.recipe, self.position, self.stop = recipe, position, stop
        self.counts = [Counter(counts) for counts in position.counts]
        self.notes = [Counter(notes) for notes in position.notes]
        self.ended = set(position.ended)
        self.rng = np.random.default_rng([recipe.seed, position.block])
        self.found: list[Encoded] = []
        self.keys: list[np.ndarray] = []
        """For each token row, the place of its source row among the drawn ones."""
        self.drawn = self.tokens = 0
        for rows, cursor in zip(recipe.rows, position.cursors, strict=True):
            if rows.cursor != cursor:
                rows.seek(cursor)

    def fill(self) -> None:
        """Read and tokenize rows until the block is full, or every dataset was read to its end.

        Raises:
            DataError: a row cannot be used.
            NewtError: a dataset has nothing to train.
        """
        most, at_once = min(self.recipe.first_tokens << min(self.position.block, 30), MOST_TOKENS), 1
        while self.drawn < self.recipe.buffer and self.tokens < most and not self.stop.is_set():
            shares = self.recipe.mix.shares(self.counts, sorted(self.ended))
            wanted = min(at_once, self.recipe.buffer - self.drawn)
            drawn = self.rng.choice(len(shares), wanted, p=shares) if len(shares) > 1 else np.zeros(wanted, np.int64)
            for number in range(len(shares)):
                self._take(number, self.drawn + np.flatnonzero(drawn == number))
            self.drawn += wanted
            at_once = min(2 * at_once, MOST_AT_ONCE)
            if len(self.ended) == len(shares):
                self.ended.clear()
                return

    def _take(self, number: int, places: np.ndarray) -> None:
        """Tokenize rows of a dataset for these places."""
        while len(places):
            for chunk in self.recipe.rows[number].take(len(places)):
                self._add(number, places[: len(chunk)], self.recipe.encoders[number](chunk))
                places = places[len(chunk) :]
            if len(places):
                self._refuse_nothing(number)
                if not self.recipe.mix.weighted:
                    self.ended.add(number)
                    return

    def _add(self, number: int, places: np.ndarray, encoded: Encoded) -> None:
        self.found.append(encoded)
        self.keys.append(places[encoded.places])
        self.counts[number].update(encoded.counts)
        join_notes(self.notes[number], encoded.notes)
        self.tokens += encoded.counts["tokens"]

    def _refuse_nothing(self, number: int) -> None:
        """A dataset that was read to its end and gave nothing to train is a mistake."""
        counts = self.counts[number]
        if counts["trained"]:
            return
        path, rows = self.recipe.mix.entries[number].path, self.recipe.rows[number]
        if not counts["rows"]:
            behind = f" behind the first {rows.skip} (skip)" if rows.skip else ""
            raise DataError(f"{path}: there are no rows in {rows.source.split}{behind}. Check path, split and skip.")
        reasons = {
            "nothing_to_train": "have no trained token",
            "too_long": "are too long",
            "too_short": "are too short",
        }
        told = ", ".join(f"{counts[key]} {what}" for key, what in reasons.items() if counts[key])
        hint = "Check the fields that hold the text, and sequence_len"
        raise NewtError(f"{path}: nothing to train: of {counts['rows']} rows read, {told}. {hint}.")

    def block(self) -> Block:
        """Put the token rows into order, and pack them."""
        end = Position(
            self.position.block + 1,
            tuple(rows.cursor for rows in self.recipe.rows),
            tuple(sorted(self.ended)),
            tuple(dict(counts) for counts in self.counts),
            tuple(dict(notes) for notes in self.notes),
        )
        rows = [self._transformed(row, i) for i, row in enumerate(_rows(self.found))]
        keys = np.concatenate([np.zeros(0, np.int64), *self.keys])
        order = self.rng.permutation(len(rows)) if self.recipe.shuffled else np.argsort(keys, kind="stable")
        return Block(self.position, end, rows, self._bins(rows, order))

    def _transformed(self, row: Sample, number: int) -> Sample:
        for transform in self.recipe.transforms:
            row = transform(row, number, self.position.block)
        return row

    def _bins(self, rows: Sequence[Sample], order: np.ndarray) -> Sequence[np.ndarray]:
        if self.recipe.pack is None or not len(rows):
            return [order[i : i + 1] for i in range(len(rows))]
        lengths = np.array([len(rows[row]["input_ids"]) for row in order], np.int32)
        packed, offsets = self.recipe.pack(lengths, int(self.rng.integers(2**31)))
        bins = np.split(packed, offsets[1:-1])
        if self.recipe.shuffled:
            # A packer sorts the bins by their longest row; trained in that order, long texts would come first.
            return [order[bins[place]] for place in self.rng.permutation(len(bins))]
        return [order[inside] for inside in sorted(bins, key=lambda inside: int(inside.min()))]


def _rows(found: Sequence[Encoded]) -> Iterator[Sample]:
    for columns in (encoded.columns for encoded in found):
        ends = np.cumsum(columns["lengths"])
        for begin, end in zip(ends - columns["lengths"], ends, strict=True):
            yield {"input_ids": columns["input_ids"][begin:end], "labels": columns["labels"][begin:end]}
