"""Reading a dataset row by row, from any place on, as often as wanted, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from newt.data.records import Chunk
from newt.data.sources import CHUNK_ROWS, Source


@dataclass(frozen=True)
class Cursor:
    """A place in a dataset: the row that is read next.

    Attributes:
        passes: how often the dataset was read to its end.
        part: number of the file.
        row: number of the row in that file.
        number: number of the row in the dataset.
    """

    passes: int = 0
    part: int = 0
    row: int = 0
    number: int = 0


class RowStream:
    """The rows of a dataset one after the other; behind the last one it begins again.

    Args:
        source: the dataset, opened as a stream.
        skip: rows to leave out at the beginning of each pass.
    """

    def __init__(self, source: Source, skip: int = 0) -> None:
        self.source = source
        self.skip = skip
        self.seek(Cursor())

    def seek(self, cursor: Cursor) -> None:
        """Go to a place. Rows before it in its file are passed over without being parsed, earlier files not at all."""
        self.cursor = cursor
        self._chunks = self._read()
        self._rest: tuple[int, Chunk] | None = None

    def take(self, count: int) -> list[Chunk]:
        """The next rows; fewer, or none, at the end of the dataset: then the next call begins with the first row.

        Raises:
            DataError: the file cannot be read on.
        """
        while self.cursor.number < self.skip:
            if not self._take(self.skip - self.cursor.number):
                break
        taken: list[Chunk] = []
        while count:
            chunk = self._take(count)
            if chunk is None:
                self.seek(Cursor(self.cursor.passes + 1))
                break
            taken.append(chunk)
            count -= len(chunk)
        return taken

    def _take(self, most: int) -> Chunk | None:
        found = self._rest or next(self._chunks, None)
        if found is None:
            return None
        part, chunk = found
        head, rest = _cut(chunk, most)
        self._rest = (part, rest) if len(rest) else None
        at = self.cursor
        row = len(head) + (at.row if part == at.part else 0)
        self.cursor = replace(at, part=part, row=row, number=at.number + len(head))
        return head

    def _read(self) -> Iterator[tuple[int, Chunk]]:
        begin = self.cursor
        for part, (reader, low, high) in enumerate(self.source.parts):
            if part >= begin.part:
                start = low + (begin.row if part == begin.part else 0)
                for chunk in reader.chunks(start, high, self.cursor.number, CHUNK_ROWS):
                    yield part, chunk


def _cut(chunk: Chunk, most: int) -> tuple[Chunk, Chunk]:
    """The first rows of a chunk, at most ``most``, and the others."""
    head = replace(chunk, payload=chunk.payload[:most], lines=chunk.lines[:most])
    return head, replace(chunk, payload=chunk.payload[most:], lines=chunk.lines[most:], first=chunk.first + most)
