"""Rows of random token ids."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from newt.data.records import Chunk, rows_as_read
from newt.data.sources import Source


def random_rows(name: str, *, rows: int, tokens: int, ids: range, seed: int) -> Source:
    """A source of rows ``{"input_ids": [...]}``.

    Args:
        name: shown in messages.
        rows: how many.
        tokens: of each row.
        ids: the ids to draw from.
        seed: decides which ones are drawn.
    """
    return Source(name, {"train": [_RandomReader(name, rows, tokens, ids, seed)]}, "train")


class _RandomReader:
    """A reader (see ``data.records``) whose row ``n`` is always the same, whichever part is read."""

    def __init__(self, name: str, rows: int, tokens: int, ids: range, seed: int) -> None:
        self._name = name
        self._rows = rows
        self._tokens = tokens
        self._ids = ids
        self._seed = seed

    def count(self) -> int:
        """Number of rows."""
        return self._rows

    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return ("input_ids",)

    def fingerprint(self) -> str:
        """Everything that decides the rows."""
        return f"random {self._rows} {self._tokens} {self._ids} {self._seed}"

    def chunks(self, start: int, stop: int, first: int, size: int) -> Iterator[Chunk]:
        """Rows from ``start`` up to ``stop``, see ``Reader``. Those before are drawn as well."""
        random = np.random.default_rng(self._seed)
        drawn: list[dict[str, list[int]]] = []
        for row in range(stop):
            ids = random.integers(self._ids.start, self._ids.stop, size=self._tokens)
            if row < start:
                continue
            drawn.append({"input_ids": ids.tolist()})
            if len(drawn) == size or row == stop - 1:
                yield Chunk(self._name, first, drawn, rows_as_read)
                first, drawn = first + len(drawn), []
