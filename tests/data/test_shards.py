"""Rows taken out of chunks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from newt.data.records import Chunk, rows_as_read
from newt.data.shards import pick


def chunks(size: int) -> list[Chunk]:
    """Rows 100 to 119 in chunks, on the lines 1 to 20."""
    rows = [{"n": 100 + i} for i in range(20)]
    lines = range(1, 21)
    return [
        Chunk("f", 100 + low, tuple(rows[low : low + size]), rows_as_read, tuple(lines[low : low + size]))
        for low in range(0, 20, size)
    ]


@pytest.mark.parametrize("size", [1, 3, 6, 20])
def test_only_the_wanted_rows_are_left_with_their_places(size: int) -> None:
    wanted = [0, 2, 3, 4, 5, 11, 19]
    found = [
        (row["n"], chunk.number(i), chunk.place(i))
        for chunk in pick(iter(chunks(size)), np.array(wanted))
        for i, row in enumerate(chunk.rows())
    ]
    assert found == [(100 + i, 100 + i, f"f: row {100 + i} (line {i + 1})") for i in wanted]


def test_chunks_without_a_wanted_row_are_never_decoded() -> None:
    picked = list(pick(iter(chunks(5)), np.array([7])))
    assert [len(chunk) for chunk in picked] == [1]
    assert list(pick(iter(chunks(5)), np.array([], np.int64))) == []


def test_rows_of_a_table() -> None:
    table = pa.record_batch({"n": list(range(10))})
    [chunk] = pick(iter([Chunk("f", 0, table, lambda chunk: chunk.payload.to_pylist())]), np.array([1, 8]))
    assert chunk.rows() == [{"n": 1}, {"n": 8}]
    assert chunk.place(1) == "f: row 8"
