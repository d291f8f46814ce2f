"""Where rows come from: files, folders, saved datasets, the Hub, addresses."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of whichever HTTP library it uses

from newt.config.core import Dataset
from newt.config.section import Config
from newt.data import remote
from newt.data.datafile import DataFile, LocalFile
from newt.data.preflight import (
    file_type,
    has_dataset_card,
    is_address,
    is_local,
    is_saved,
    problems,
    split_files,
    split_name,
    wanted_files,
)
from newt.data.records import Chunk, Reader, Row, open_file, rows_as_read, without_fill
from newt.data.retry import first_line, is_offline, may_pass, retried
from newt.support.errors import DataError

CHUNK_ROWS = 256

Splits = Mapping[str, Sequence[Reader]]


def read(entry: Dataset, *, default_split: str, cfg: Config, stream: bool = False) -> Source:
    """Open the rows of a dataset entry; they are read when they are asked for.

    Args:
        entry: the dataset entry.
        default_split: split to take when the entry names none ("train", or "test" for evaluation data).
            Files that do not say which split they are all belong to train, and are taken for either.
        cfg: the config.
        stream: rows are not counted before they are read, and remote ones are not downloaded as a whole.

    Raises:
        DataError: nothing is there, it cannot be read, or it has no such split.
    """
    for problem in problems(entry, "path", cfg):
        if problem.kind != "warning":
            raise DataError(f"{entry.path}: {problem.message} {problem.hint}".rstrip())
    if is_local(entry):
        named, splits = _local_splits(entry)
    elif is_address(entry):
        named, splits = _address_splits(entry, stream)
    else:
        named, splits = _hub_splits(entry, stream)
    split = entry.split or default_split
    if entry.split is None and split not in splits:
        if not named:
            split = "train"
        else:
            found = ", ".join(splits)
            raise DataError(f"{entry.path}: there is no split {split} (found: {found}). Set split to one of them.")
    return Source(entry.path, splits, split, counted=not stream)


class Source:
    """Rows of one dataset entry.

    Args:
        path: as the user wrote it.
        splits: split name -> readers, in order.
        split: name of a split, with an optional slice, such as ``train[10%:20%]``.
        counted: the number of rows is wanted before they are read; a slice needs it anyway.
    """

    def __init__(self, path: str, splits: Splits, split: str, *, counted: bool = True) -> None:
        self.path = path
        self.split = split
        self._splits = splits
        self._counted = counted or "[" in split
        self._read = [name.partition("[")[0] for name in split.split("+")]
        missing = [name for name in self._read if name not in splits]
        if missing:
            raise DataError(f"{path}: there is no split {missing[0]} (found: {', '.join(splits)}). Correct split.")

    def __len__(self) -> int:
        if not self._counted:
            raise TypeError("the rows of a stream are not counted")
        return sum(stop - start for _, start, stop, _ in self._pieces)

    def __iter__(self) -> Iterator[Row]:
        """Rows as mappings, None values kept."""
        for chunk in self.chunks():
            yield from chunk.rows()

    def chunks(self, size: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """Rows in chunks of at most ``size``, in order; memory stays bounded."""
        seen = 0
        for reader, start, stop, first in self._pieces:
            for chunk in reader.chunks(start, stop, first if self._counted else seen, size):
                seen += len(chunk)
                yield chunk

    @property
    def parts(self) -> list[tuple[Reader, int, int]]:
        """(reader, first row in it, row after the last), in order; the last is a high number where nobody counted."""
        return [(reader, start, stop) for reader, start, stop, _ in self._pieces]

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
        if not self._counted:
            return [(reader, 0, sys.maxsize, 0) for name in self._read for reader in self._splits[name]]
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
    listed = base.is_dir() and entry.data_files is None
    found = split_files(entry)
    return _grouped(entry, [(split_name(path, base) if listed else split, LocalFile(path)) for split, path in found])


def _grouped(entry: Dataset, files: Sequence[tuple[str | None, DataFile]]) -> tuple[bool, Splits]:
    """(whether a file has a split, readers of the files by their split)."""
    splits: dict[str, list[Reader]] = {}
    for split, file in files:
        kind = file_type(Path(file.name), entry) or "json"
        splits.setdefault(split or "train", []).append(open_file(file, kind))
    return any(split for split, _ in files), splits


def _described_splits(entry: Dataset, folder: Path) -> Splits:
    """Splits of a folder with a dataset card; the files are found by the datasets library and read here."""
    try:
        builder = datasets.load_dataset_builder(str(folder), entry.name)
    except (ValueError, FileNotFoundError) as error:
        raise DataError(f"{entry.path}: {first_line(error)}") from error
    files = {name: [Path(path) for path in paths] for name, paths in (builder.config.data_files or {}).items()}
    kinds = [file_type(path, entry) for paths in files.values() for path in paths]
    if not kinds or None in kinds:
        return _tables(_retried(lambda: datasets.load_dataset(str(folder), entry.name), entry))[1]
    return _grouped(entry, [(name, LocalFile(path)) for name, paths in files.items() for path in paths])[1]


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
        stop = min(stop, self.count())
        for low in range(start, stop, size):
            columns = self._table[low : min(low + size, stop)]
            rows = [
                dict(zip(columns, map(without_fill, values), strict=True))
                for values in zip(*columns.values(), strict=True)
            ]
            yield Chunk(self._name, first + low - start, rows, rows_as_read)


class StreamReader:
    """Rows of a dataset of the datasets library that are fetched when they are read."""

    def __init__(self, rows: Any, name: str, entry: Dataset) -> None:
        self._rows = rows
        self._name = name
        self._entry = entry

    def count(self) -> int:
        """Number of rows, as the dataset's card tells it."""
        known = (getattr(self._rows.info, "splits", None) or {}).get(self._name)
        if known is None or not known.num_examples:
            raise DataError(f"{self._entry.path}: a stream of unknown length cannot be sliced. Remove the slice.")
        return int(known.num_examples)

    def columns(self) -> tuple[str, ...]:
        """Column names."""
        return tuple(self._rows.column_names or next(iter(self._rows), {}))

    def fingerprint(self) -> str:
        """Name of the split: what it holds is not known before it is read."""
        return self._name

    def chunks(self, start: int, stop: int, first: int, size: int) -> Iterator[Chunk]:
        """Rows from ``start`` up to ``stop``, see ``Reader``."""
        try:
            rows = islice(self._rows.skip(start) if start else self._rows, stop - start)
            while batch := [without_fill(row) for row in islice(rows, size)]:
                yield Chunk(self._name, first, batch, rows_as_read)
                first += len(batch)
        except (OSError, HTTPError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise DataError(f"{self._entry.path}: row {first} and what follows: {_advice(error)}") from error


def _tables(loaded: Any) -> tuple[bool, Splits]:
    if isinstance(loaded, datasets.DatasetDict):
        return True, {name: [TableReader(table, name)] for name, table in loaded.items()}
    return False, {"train": [TableReader(loaded, "train")]}


# --------------------------------------------------------------------------- remote


def _address_splits(entry: Dataset, stream: bool) -> tuple[bool, Splits]:
    found = remote.find(entry, stream)
    if found.saved:
        return _tables(datasets.load_from_disk(str(remote.copy_of(found))))
    if not found.folder:
        return _grouped(entry, found.files)
    kinds = sorted({str(file_type(Path(file.name), entry)) for _, file in found.files})
    if len(kinds) > 1:
        types = ", ".join(kinds)
        raise DataError(f"{entry.path}: holds several types of files ({types}). Set data_files or ds_type.")
    return _grouped(entry, [(split_name(Path(file.place), Path()), file) for _, file in found.files])


def _hub_splits(entry: Dataset, stream: bool) -> tuple[bool, Splits]:
    if entry.data_files is not None and not entry.name and not stream:
        return _hub_files(entry)
    files = thawed(entry.data_files)
    named: dict[str, Any] = {"revision": entry.revision, "data_files": files, "streaming": stream}
    loaded = _retried(lambda: datasets.load_dataset(entry.path, entry.name, **named), entry)
    if stream:
        return True, {str(name): [StreamReader(rows, str(name), entry)] for name, rows in loaded.items()}
    return True, _tables(loaded)[1]


def thawed(files: Any) -> Any:
    """``data_files`` as the datasets library takes them."""
    if isinstance(files, Mapping):
        return {split: thawed(names) for split, names in files.items()}
    return list(files) if isinstance(files, tuple) else files


def _hub_files(entry: Dataset) -> tuple[bool, Splits]:
    """The files that ``data_files`` names, fetched, and read here: rows are not made alike, and errors have lines."""
    from huggingface_hub import snapshot_download

    patterns = [name for _, name in wanted_files(entry) or ()]
    keys: dict[str, Any] = {"repo_type": "dataset", "revision": entry.revision, "allow_patterns": patterns}
    folder = Path(_retried(lambda: snapshot_download(entry.path, **keys), entry))
    files = split_files(entry, folder)
    missing = next((path for _, path in files if not path.is_file()), None)
    if missing is not None:
        name = missing.relative_to(folder).as_posix()
        raise DataError(f"{entry.path}: there is no file {name} in it. Check data_files and revision.")
    return _grouped(entry, [(split, LocalFile(path)) for split, path in files])


def _retried(load: Callable[[], Any], entry: Dataset) -> Any:
    """Load, with two more tries after network errors."""

    def fail(error: Exception) -> DataError:
        known = isinstance(error, (OSError, HTTPError))
        return DataError(f"{entry.path}: {_advice(error) if known else first_line(error)}")

    return retried(load, (OSError, HTTPError, ValueError, ImportError, datasets.exceptions.DatasetsError), fail)


def _advice(error: Exception) -> str:
    if is_offline(error):
        return "is not on this machine, and offline mode is on (HF_HUB_OFFLINE). Download it first, or go online."
    hint = " Check the network." if may_pass(error) else " Check path, name, revision and data_files."
    return first_line(error).rstrip(".") + "." + hint
