"""Token rows on disk: an Arrow file that is mapped into memory, so that any number of rows costs no RAM."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsIndex

import numpy as np
import pyarrow as pa

IGNORE = -100
"""Label of a token that is not trained."""

_SCHEMA = pa.schema(
    {
        "input_ids": pa.list_(pa.int32()),
        "labels": pa.list_(pa.int32()),
        "dataset": pa.int16(),
        "row": pa.int32(),
        "trained": pa.int32(),
    }
)


def trained_tokens(labels: np.ndarray) -> int:
    """Labels that count in the loss: the first one never does, nothing stands before it that could predict it."""
    return int(np.count_nonzero(labels[1:] != IGNORE))


_BATCH_TOKENS = 1 << 20
"""Rows are written together until they have this many tokens: who reads all lengths then touches few pages."""


def files_of(path: Path) -> list[Path]:
    """The files that hold the rows of ``path``: itself, or its numbered parts; nothing if there are none."""
    if path.exists():
        return [path]
    return sorted(path.parent.glob(f"{path.stem}-?????-of-?????{path.suffix}"))


class TokenWriter:
    """Writes token rows to Arrow files, batch after batch; use it in a ``with`` block.

    Args:
        path: the file; of several files what their names are made from (``rows-00000-of-00004.arrow``).
        files: how many files share the batches, in rotation, so that each gets about the same number of rows.
    """

    def __init__(self, path: Path, files: int = 1) -> None:
        names = [f"{path.stem}-{number:05}-of-{files:05}{path.suffix}" for number in range(files)]
        paths = [path] if files == 1 else [path.with_name(name) for name in names]
        self._files = [pa.ipc.new_file(str(path), _SCHEMA) for path in paths]
        self._written = 0
        self._held: list[dict[str, np.ndarray]] = []
        self._tokens = 0

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush(pieces=len(self._files))
        for file in self._files:
            file.close()

    def add(self, columns: Mapping[str, np.ndarray], dataset: int) -> None:
        """Append rows.

        Args:
            columns: flat ``input_ids`` and ``labels`` (tokens,); ``lengths``, ``row``, ``trained`` (rows,); all int32.
            dataset: number of the dataset that they come from.
        """
        lengths = columns["lengths"]
        if not len(lengths):
            return
        self._held.append({**columns, "dataset": np.full(len(lengths), dataset, np.int16)})
        self._tokens += len(columns["input_ids"])
        if self._tokens >= _BATCH_TOKENS:
            self._flush()

    def _flush(self, pieces: int = 1) -> None:
        if not self._held:
            return
        columns = {name: np.concatenate([held[name] for held in self._held]) for name in (*_SCHEMA.names, "lengths")}
        self._held, self._tokens = [], 0
        offsets = pa.array(np.concatenate([[0], np.cumsum(columns.pop("lengths"))]).astype(np.int32))
        arrays = [
            pa.ListArray.from_arrays(offsets, pa.array(values, kind.value_type))
            if pa.types.is_list(kind)
            else pa.array(values, kind)
            for values, kind in zip(columns.values(), _SCHEMA.types, strict=True)
        ]
        batch = pa.record_batch(arrays, schema=_SCHEMA)
        borders = [len(batch) * number // pieces for number in range(pieces + 1)]
        for low, high in pairwise(borders):
            if low < high:
                self._files[self._written % len(self._files)].write_batch(batch.slice(low, high - low))
                self._written += 1


def _batches(path: Path, in_memory: bool) -> list[Any]:
    """Record batches in the order in which they were written."""
    with ExitStack() as opened:
        maps = [opened.enter_context(pa.memory_map(str(one))) for one in files_of(path) or [path]]
        files = [pa.ipc.open_file(pa.BufferReader(one.read()) if in_memory else one) for one in maps]
        count = sum(file.num_record_batches for file in files)
        return [files[number % len(files)].get_batch(number // len(files)) for number in range(count)]


class _Mapped:
    """The columns of Arrow files as NumPy views of the mapped memory, or of a copy of the files in memory."""

    def __init__(self, path: Path, in_memory: bool = False) -> None:
        batches = _batches(path, in_memory)
        self.offsets = [batch.column("input_ids").offsets.to_numpy() for batch in batches]
        self.ids = [batch.column("input_ids").values.to_numpy() for batch in batches]
        self.labels = [batch.column("labels").values.to_numpy() for batch in batches]
        self.starts = np.concatenate([[0], np.cumsum([len(batch) for batch in batches], dtype=np.int64)]).astype(
            np.int64
        )
        self.lengths = _joined([np.diff(offsets) for offsets in self.offsets], np.int32)
        self.dataset = _joined([batch.column("dataset").to_numpy() for batch in batches], np.int16)
        self.row = _joined([batch.column("row").to_numpy() for batch in batches], np.int32)
        self.trained = _joined([batch.column("trained").to_numpy() for batch in batches], np.int32)


def _joined(arrays: Sequence[np.ndarray], kind: type[np.generic]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, kind)


class TokenRows:
    """Token rows of an Arrow file (or of several, see ``TokenWriter``), all of them or a choice, in any order.

    ``rows[i]`` is ``{"input_ids", "labels"}``: int32 arrays (length,), read-only views without a copy. It can be sent
    to another process, which maps the file itself.

    Args:
        path: the file.
        indices: int64 (rows,), the rows in the file that are row 0, 1, ... here; None: all.
        in_memory: read the file into memory instead of mapping it. Another process maps it all the same.
    """

    def __init__(self, path: Path, indices: np.ndarray | None = None, *, in_memory: bool = False) -> None:
        self.path = path
        self._mapped = _Mapped(path, in_memory)
        everything = indices is None
        self._indices = np.arange(len(self._mapped.lengths)) if everything else np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: SupportsIndex) -> dict[str, np.ndarray]:
        place = int(self._indices[operator.index(index)])
        mapped = self._mapped
        batch = int(np.searchsorted(mapped.starts, place, side="right")) - 1
        offsets = mapped.offsets[batch]
        inside = place - int(mapped.starts[batch])
        low, high = offsets[inside], offsets[inside + 1]
        return {"input_ids": mapped.ids[batch][low:high], "labels": mapped.labels[batch][low:high]}

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenRows, (self.path, self._indices)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int32 (rows,)."""
        lengths: np.ndarray = self._mapped.lengths[self._indices]
        return lengths

    @property
    def trained(self) -> np.ndarray:
        """Tokens of each row that count in the loss, int32 (rows,)."""
        trained: np.ndarray = self._mapped.trained[self._indices]
        return trained

    @property
    def dataset(self) -> np.ndarray:
        """Number of the dataset that each row comes from, int16 (rows,)."""
        dataset: np.ndarray = self._mapped.dataset[self._indices]
        return dataset

    def provenance(self, index: int) -> tuple[int, int]:
        """(number of the dataset, number of the row in it) that a row was made from."""
        place = self._indices[index]
        return int(self._mapped.dataset[place]), int(self._mapped.row[place])

    def select(self, indices: Sequence[int] | np.ndarray) -> TokenRows:
        """The rows with these numbers, in this order."""
        chosen = TokenRows.__new__(TokenRows)
        chosen.path, chosen._mapped = self.path, self._mapped
        chosen._indices = self._indices[np.asarray(indices, np.int64)]
        return chosen
