"""Where rows come from: files, folders, saved datasets, the Hub, addresses."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of whichever HTTP library it uses

from newt.config.core import Dataset
from newt.config.section import Config
from newt.data.preflight import (
    file_type,
    has_dataset_card,
    is_local,
    is_saved,
    is_url,
    local_files,
    problems,
    split_name,
)
from newt.data.records import Chunk, Reader, Row, open_file, rows_as_read, without_fill
from newt.support.errors import DataError

CHUNK_ROWS = 256
_WAITS = (5, 10)
"""Seconds before the second and the third try after a network error."""

Splits = Mapping[str, Sequence[Reader]]


def read(entry: Dataset, *, default_split: str, cfg: Config) -> Source:
    """Open the rows of a dataset entry; they are read when they are asked for.

    Args:
        entry: the dataset entry.
        default_split: split to take when the entry names none ("train", or "test" for evaluation data).
            Files that do not say which split they are all belong to train, and are taken for either.
        cfg: the config.

    Raises:
        DataError: nothing is there, it cannot be read, or it has no such split.
    """
    for problem in problems(entry, "path", cfg):
        if problem.kind != "warning":
            raise DataError(f"{entry.path}: {problem.message} {problem.hint}".rstrip())
    named, splits = _local_splits(entry) if is_local(entry) else (True, _remote_splits(entry))
    split = entry.split or default_split
    if entry.split is None and split not in splits:
        if not named:
            split = "train"
        else:
            found = ", ".join(splits)
            raise DataError(f"{entry.path}: there is no split {split} (found: {found}). Set split to one of them.")
    return Source(entry.path, splits, split)


class Source:
    """Rows of one dataset entry.

    Args:
        path: as the user wrote it.
        splits: split name -> readers, in order.
        split: name of a split, with an optional slice, such as ``train[10%:20%]``.
    """

    def __init__(self, path: str, splits: Splits, split: str) -> None:
        self.path = path
        self.split = split
        self._splits = splits
        self._read = [name.partition("[")[0] for name in split.split("+")]
        missing = [name for name in self._read if name not in splits]
        if missing:
            raise DataError(f"{path}: there is no split {missing[0]} (found: {', '.join(splits)}). Correct split.")

    def __len__(self) -> int:
        return sum(stop - start for _, start, stop, _ in self._pieces)

    def __iter__(self) -> Iterator[Row]:
        """Rows as mappings, None values kept."""
        for chunk in self.chunks():
            yield from chunk.rows()

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """Rows in chunks of at most ``size``, in order; memory stays bounded."""
        for reader, start, stop, first in self._pieces:
            yield from reader.chunks(start, stop, first, size)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Column names of the first row."""
        return next((reader.columns() for reader, *_ in self._pieces), ())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the content of all files read (of the Hub: its revision), and over what is taken of them."""
        prints = [reader.fingerprint() for name in self._read for reader in self._splits[name]]
        return hashlib.sha256("\n".join([self.split, *prints]).encode()).hexdigest()

    @cached_property
    def _pieces(self) -> list[tuple[Reader, int, int, int]]:
        """(reader, first row in it, row after the last, number of the first row in its split)."""
        counts = {name: [reader.count() for reader in self._splits[name]] for name in self._read}
        totals = {name: sum(of_files) for name, of_files in counts.items()}
        try:
            wanted = datasets.ReadInstruction.from_spec(self.split).to_absolute(totals)
        except (ValueError, AssertionError) as error:
            raise DataError(f"{self.path}: the split {self.split} cannot be read: {error}") from error
        pieces = []
        for part in wanted:
            ends = list(accumulate(counts[part.splitname]))
            for reader, count, end in zip(self._splits[part.splitname], counts[part.splitname], ends, strict=True):
                begin = end - count
                low, high = max(part.from_, begin), min(part.to, end)
                if low < high:
                    pieces.append((reader, low - begin, high - begin, low))
        return pieces


# --------------------------------------------------------------------------- local


def _local_splits(entry: Dataset) -> tuple[bool, Splits]:
    """(whether the data say what their splits are, the splits)."""
    base = Path(entry.path).expanduser()
    if entry.data_files is None and base.is_dir():
        if is_saved(base):
            return _tables(datasets.load_from_disk(str(base)))
        if entry.name or has_dataset_card(base):
            return True, _described_splits(entry, base)
    files = local_files(entry)
    names = [split_name(path, base) if base.is_dir() and entry.data_files is None else None for path in files]
    splits: dict[str, list[Reader]] = {}
    for path, name in zip(files, names, strict=True):
        splits.setdefault(name or "train", []).append(open_file(path, str(file_type(path, entry))))
    return any(names), splits


def _described_splits(entry: Dataset, folder: Path) -> Splits:
    """Splits of a folder with a dataset card; the files are found by the datasets library and read here."""
    try:
        builder = datasets.load_dataset_builder(str(folder), entry.name)
    except (ValueError, FileNotFoundError) as error:
        raise DataError(f"{entry.path}: {_first_line(error)}") from error
    files = {name: [Path(path) for path in paths] for name, paths in (builder.config.data_files or {}).items()}
    kinds = [file_type(path, entry) for paths in files.values() for path in paths]
    if not kinds or None in kinds:
        return _tables(_retried(lambda: datasets.load_dataset(str(folder), entry.name), entry))[1]
    return {name: [open_file(path, str(file_type(path, entry))) for path in paths] for name, paths in files.items()}


class TableReader:
    """Rows of a table of the datasets library."""

    def __init__(self, table: Any, name: str) -> None:
        self._table = table
        self._name = name

    def count(self) -> int:
        """Number of rows."""
        return len(self._table)

    def columns(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(self._table.column_names)

    def fingerprint(self) -> str:
        """The library's fingerprint: files of a saved dataset, revision of a Hub dataset."""
        return str(self._table._fingerprint)

    def chunks(self, start: int, stop: int, first: int, size: int) -> Iterator[Chunk]:
        """Rows from ``start`` up to ``stop``, see ``Reader``."""
        for low in range(start, stop, size):
            columns = self._table[low : min(low + size, stop)]
            rows = [
                dict(zip(columns, map(without_fill, values), strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
            yield Chunk(self._name, first + low - start, rows, rows_as_read)


def _tables(loaded: Any) -> tuple[bool, Splits]:
    if isinstance(loaded, datasets.DatasetDict):
        return True, {name: [TableReader(table, name)] for name, table in loaded.items()}
    return False, {"train": [TableReader(loaded, "train")]}


# --------------------------------------------------------------------------- remote


def _remote_splits(entry: Dataset) -> Splits:
    if is_url(entry):
        kind = file_type(Path(entry.path), entry) or "json"
        loaded = _retried(lambda: datasets.load_dataset(kind, data_files=entry.path), entry)
    else:
        files = list(entry.data_files) if isinstance(entry.data_files, tuple) else entry.data_files
        loaded = _retried(
            lambda: datasets.load_dataset(entry.path, entry.name, revision=entry.revision, data_files=files), entry
        )
    return _tables(loaded)[1]


def _retried(load: Callable[[], Any], entry: Dataset) -> Any:
    """Load, with two more tries after network errors."""
    for wait in (*_WAITS, None):
        try:
            return load()
        except (OSError, HTTPError) as error:
            if wait is None or not _may_pass(error):
                raise DataError(f"{entry.path}: {_advice(error)}") from error
            time.sleep(wait)
        except (ValueError, ImportError, datasets.exceptions.DatasetsError) as error:
            raise DataError(f"{entry.path}: {_first_line(error)}") from error
    raise AssertionError("the last try returns or raises")


def _may_pass(error: Exception) -> bool:
    """Whether a network error may be gone at the next try."""
    if "OfflineModeIsEnabled" in f"{type(error).__name__} {error}":
        return False
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return bool(status >= 500 or status == 429)
    return isinstance(error, (ConnectionError, TimeoutError, HTTPError))


def _advice(error: Exception) -> str:
    if "OfflineModeIsEnabled" in f"{type(error).__name__} {error}":
        return "is not on this machine, and offline mode is on (HF_HUB_OFFLINE). Download it first, or go online."
    hint = " Check the network." if _may_pass(error) else " Check path, name, revision and data_files."
    return _first_line(error).rstrip(".") + "." + hint


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
