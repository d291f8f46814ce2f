"""Token rows on disk: an Arrow file that is mapped into memory, so that any number of rows costs no RAM."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
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


class TokenWriter:
    """Writes token rows to an Arrow file, batch after batch; use it in a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._file = pa.ipc.new_file(str(path), _SCHEMA)

    def __enter__(self) -> TokenWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, columns: Mapping[str, np.ndarray], dataset: int) -> None:
        """Append rows.

        Args:
            columns: flat ``input_ids`` and ``labels`` (tokens,); ``lengths``, ``row``, ``trained`` (rows,); all int32.
            dataset: number of the dataset that they come from.
        """
        lengths = columns["lengths"]
        if not len(lengths):
            return
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        arrays = [
            pa.ListArray.from_arrays(offsets, pa.array(columns["input_ids"], pa.int32())),
            pa.ListArray.from_arrays(offsets, pa.array(columns["labels"], pa.int32())),
            pa.array(np.full(len(lengths), dataset, np.int16)),
            pa.array(columns["row"], pa.int32()),
            pa.array(columns["trained"], pa.int32()),
        ]
        self._file.write_batch(pa.record_batch(arrays, schema=_SCHEMA))


class _Mapped:
    """The columns of an Arrow file as NumPy views of the mapped memory."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            batches = [file.get_batch(number) for number in range(file.num_record_batches)]
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
    """Token rows of an Arrow file, all of them or a choice, in any order.

    ``rows[i]`` is ``{"input_ids", "labels"}``: int32 arrays (length,), read-only views without a copy. It can be sent
    to another process, which maps the file itself.

    Args:
        path: the file.
        indices: int64 (rows,), the rows in the file that are row 0, 1, ... here; None: all.
    """

    def __init__(self, path: Path, indices: np.ndarray | None = None) -> None:
        self.path = path
        self._mapped = _Mapped(path)
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
