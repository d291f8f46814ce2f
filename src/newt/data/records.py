"""Rows of one file, in chunks: JSON, CSV, text, Parquet and Arrow.

Text formats are read here, line by line, instead of through a table reader: a table has one type for each column,
and would add the keys of every tool call's arguments to all others. A row is parsed where the chunk is decoded
(in a tokenizing process), so that the process that reads only has to find the lines.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from newt.data.datafile import DataFile
from newt.data.preflight import suffix
from newt.support.errors import DataError

Row = dict[str, Any]
Record = tuple[int, Any]
"""(line number, row or its bytes)"""
CHUNK_BYTES = 4 << 20
"""A chunk of text lines ends at this size even if it has few rows, so that memory stays bounded."""
_BLOCK = 1 << 20
_SEPARATOR = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Chunk:
    """Some neighbouring rows, not decoded yet; it can be sent to another process.

    Attributes:
        file: shown in messages.
        first: number of the first row in its dataset, from 0.
        payload: the rows as they were read.
        parse: makes rows of the payload.
        lines: line number of each row, where the file has lines.
        numbers: number of each row in its dataset, where they are no neighbours.
    """

    file: str
    first: int
    payload: Any
    parse: Callable[[Chunk], list[Row]]
    lines: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.payload)

    def rows(self) -> list[Row]:
        """The rows, None values kept.

        Raises:
            DataError: a row cannot be read; the message names file and line.
        """
        return self.parse(self)

    def number(self, index: int) -> int:
        """Number of a row in its dataset."""
        return self.numbers[index] if self.numbers else self.first + index

    def place(self, index: int) -> str:
        """Where a row of this chunk stands, for messages."""
        line = f" (line {self.lines[index]})" if self.lines else ""
        return f"{self.file}: row {self.number(index)}{line}"


class Reader(Protocol):
    """Rows of one file or table."""

    def count(self) -> int:
        """Number of rows."""

    def columns(self) -> tuple[str, ...]:
        """Column names of the first row."""

    def fingerprint(self) -> str:
        """Changes when the content changes."""

    def chunks(self, start: int, stop: int, first: int, size: int) -> Iterator[Chunk]:
        """Rows from ``start`` up to ``stop`` in chunks of ``size``; row ``start`` gets the number ``first``."""


def open_file(file: DataFile, kind: str) -> Reader:
    """Reader of a data file; ``kind`` is one of json, csv, text, parquet, arrow. Nothing is read yet."""
    if kind in ("parquet", "arrow"):
        return TableFile(file, kind)
    if kind == "text":
        return TextFile(file, _text_records, rows_as_read)
    if kind == "csv":
        return TextFile(file, _csv_records, rows_as_read)
    return JsonFile(file, _lines, _parse_lines)


class TextFile:
    """Rows of a text file.

    Args:
        file: the file.
        records: finds the records.
        parse: makes rows of them.
    """

    def __init__(
        self, file: DataFile, records: Callable[[DataFile], Iterator[Record]], parse: Callable[[Chunk], list[Row]]
    ) -> None:
        self.file = file
        self._records = records
        self._parse = parse
        self._count: int | None = None

    def count(self) -> int:
        """Number of rows; the file is read once for it."""
        if self._count is None:
            self._count = sum(1 for _ in self._found())
        return self._count

    def columns(self) -> tuple[str, ...]:
        """Column names of the first row."""
        return next((tuple(chunk.rows()[0]) for chunk in self.chunks(0, 1, 0, 1)), ())

    def fingerprint(self) -> str:
        """Changes when the content changes."""
        return self.file.fingerprint()

    def chunks(self, start: int, stop: int, first: int, size: int) -> Iterator[Chunk]:
        """Rows from ``start`` up to ``stop``, see ``Reader``."""
        for group in _groups(islice(self._found(), start, stop), size):
            lines, payload = zip(*group, strict=True)
            yield Chunk(str(self.file), first, payload, self._maker(), lines)
            first += len(group)

    def _found(self) -> Iterator[Record]:
        return self._records(self.file)

    def _maker(self) -> Callable[[Chunk], list[Row]]:
        return self._parse


class JsonFile(TextFile):
    """Rows of a JSON file: an object on each line, or one list of objects."""

    @cached_property
    def _is_list(self) -> bool:
        return next((line.lstrip()[:1] == b"[" for _, line in _lines(self.file)), False)

    def _found(self) -> Iterator[Record]:
        return _list_records(self.file) if self._is_list else super()._found()

    def _maker(self) -> Callable[[Chunk], list[Row]]:
        return rows_as_read if self._is_list else super()._maker()


def _groups(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    group: list[Record] = []
    held = 0
    for record in records:
        group.append(record)
        held += len(record[1]) if isinstance(record[1], bytes) else 0
        if len(group) == size or held >= CHUNK_BYTES:
            yield group
            group, held = [], 0
    if group:
        yield group


# --------------------------------------------------------------------------- bytes and lines


@contextmanager
def _opened(file: DataFile) -> Iterator[BinaryIO]:
    compression = PurePath(file.name).suffix.lower()
    try:
        with file.open() as raw:
            if compression == ".gz":
                with gzip.open(raw) as stream:
                    yield cast("BinaryIO", stream)
            elif compression == ".zst":
                with pa.input_stream(raw, compression="zstd") as stream:
                    yield cast("BinaryIO", io.BufferedReader(stream))
            else:
                yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowException) as error:
        raise DataError(f"{file}: is damaged or not compressed as its name says: {error}") from error
    except file.errors as error:
        raise DataError(f"{file}: {file.why(error)}") from error


def _lines(file: DataFile) -> Iterator[Record]:
    """Lines that are not blank, with their numbers from 1, without a byte order mark."""
    with _opened(file) as stream:
        for number, line in enumerate(stream, 1):
            content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            if content.strip():
                yield number, content


def _decoded(file: object, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        raise DataError(f"{file}:{number}: is not UTF-8 ({what}). Save the file as UTF-8.") from error


def _text_records(file: DataFile) -> Iterator[Record]:
    for number, line in _lines(file):
        yield number, {"text": _decoded(file, number, line).rstrip("\r\n")}


def _csv_records(file: DataFile) -> Iterator[Record]:
    """Every cell is a string, as written; an absent cell is None."""
    csv.field_size_limit(sys.maxsize)
    delimiter = "\t" if suffix(Path(file.name)) == ".tsv" else ","
    with _opened(file) as stream:
        lines = (
            _decoded(file, number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            for number, line in enumerate(stream, 1)
        )
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next(reader, [])
            for cells in reader:
                if len(cells) > len(header):
                    wrong = f"has {len(cells)} cells, the header has {len(header)}"
                    raise DataError(f"{file}:{reader.line_num}: {wrong}. Is a quote missing?")
                if cells:
                    yield reader.line_num, dict(zip(header, [*cells, *[None] * len(header)], strict=False))
        except csv.Error as error:
            raise DataError(f"{file}:{reader.line_num}: is not valid CSV: {error}.") from error


# --------------------------------------------------------------------------- JSON


def _parse_lines(chunk: Chunk) -> list[Row]:
    return [_json_row(chunk.file, number, raw) for number, raw in zip(chunk.lines, chunk.payload, strict=True)]


def _json_row(file: str, number: int, raw: bytes) -> Row:
    text = _decoded(file, number, raw).rstrip("\r\n")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        what = f"is not valid JSON: {error.msg} (column {error.pos + 1})"
        raise DataError(f"{file}:{number}: {what}. Each line must hold one JSON object.") from error
    return _checked(file, number, value)


def _checked(file: str, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        kind = {list: "list", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")
        raise DataError(f"{file}:{number}: a row must be a JSON object, this is a {kind}.")
    return value


def _list_records(file: DataFile) -> Iterator[Record]:
    """Elements of one JSON list, without holding the whole of it."""
    with _opened(file) as raw:
        text = io.TextIOWrapper(raw, "utf-8-sig")
        try:
            yield from _elements(file, text)
        except UnicodeDecodeError as error:
            what = f"byte 0x{error.object[error.start]:02x}"
            raise DataError(f"{file}: is not UTF-8 ({what}). Save the file as UTF-8.") from error


def _elements(file: DataFile, text: io.TextIOWrapper) -> Iterator[Record]:
    decoder = json.JSONDecoder()
    buffer = text.read(_BLOCK)
    position = buffer.index("[") + 1
    line = 1 + buffer.count("\n", 0, position)
    while True:
        start = _SEPARATOR.match(buffer, position).end()  # type: ignore[union-attr]
        line += buffer.count("\n", position, start)
        position = start
        if buffer.startswith("]", position):
            if (buffer[position + 1 :] + text.read(_BLOCK)).strip():
                raise DataError(f"{file}:{line}: there is more text after the end of the list.")
            return
        try:
            value, end = decoder.raw_decode(buffer, position)
        except json.JSONDecodeError as error:
            more = text.read(max(_BLOCK, len(buffer) - position)) if _cut_off(error) else ""
            if not more:
                bad = line + buffer.count("\n", position, error.pos)
                raise DataError(f"{file}:{bad}: is not valid JSON: {error.msg}.") from error
            buffer, position = buffer[position:] + more, 0
            continue
        yield line, _checked(str(file), line, value)
        line += buffer.count("\n", position, end)
        position = end


def _cut_off(error: json.JSONDecodeError) -> bool:
    """Whether the text may only have ended too early: the mistake is at its end, or a string is still open."""
    return error.msg.startswith("Unterminated") or error.pos >= len(error.doc) - 16


# --------------------------------------------------------------------------- tables


def rows_as_read(chunk: Chunk) -> list[Row]:
    """Rows that were parsed when they were found."""
    return list(chunk.payload)


def _parse_table(chunk: Chunk) -> list[Row]:
    rows = chunk.payload.to_pylist()
    if b'"Json"' in ((chunk.payload.schema.metadata or {}).get(b"huggingface") or b""):
        from datasets import Features  # only tables that it wrote with JSON columns need it

        features = Features.from_arrow_schema(chunk.payload.schema)
        rows = [features.decode_example(row) for row in rows]
    return [{name: without_fill(value) for name, value in row.items()} for row in rows]


def without_fill(value: Any) -> Any:
    """Remove None values from nested mappings: a table fills in every key that only other rows have."""
    if isinstance(value, dict):
        return {key: without_fill(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_fill(inner) for inner in value]
    return value


@contextmanager
def _table_errors(file: DataFile) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read as a table: {str(error).splitlines()[0]}") from error


class TableFile:
    """Rows of a Parquet file, or of an Arrow file in the file or the stream layout."""

    def __init__(self, file: DataFile, kind: str) -> None:
        self.file = file
        self._kind = kind

    @cached_property
    def _table(self) -> Any:
        with _table_errors(self.file):
            source = self.file.table()
            return pq.ParquetFile(source, memory_map=True) if self._kind == "parquet" else _arrow_table(source)

    def count(self) -> int:
        """Number of rows."""
        return int(self._table.metadata.num_rows if self._kind == "parquet" else self._table.num_rows)

    def columns(self) -> tuple[str, ...]:
        """Column names."""
        return tuple((self._table.schema_arrow if self._kind == "parquet" else self._table.schema).names)

    def fingerprint(self) -> str:
        """Changes when the content changes."""
        return self.file.fingerprint()

    def chunks(self, start: int, stop: int, first: int, size: int) -> Iterator[Chunk]:
        """Rows from ``start`` up to ``stop``, see ``Reader``."""
        seen = 0
        with _table_errors(self.file):
            for batch in self._batches(size):
                low, high = max(start - seen, 0), min(stop - seen, len(batch))
                if low < high:
                    yield Chunk(str(self.file), first, batch.slice(low, high - low), _parse_table)
                    first += high - low
                seen += len(batch)
                if seen >= stop:
                    return

    def _batches(self, size: int) -> Iterator[Any]:
        if self._kind == "parquet":
            return iter(self._table.iter_batches(batch_size=size))
        return iter(self._table.to_batches(max_chunksize=size))


def _arrow_table(place: Path | BinaryIO) -> Any:
    source = pa.memory_map(str(place)) if isinstance(place, Path) else pa.PythonFile(place, "r")
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()
