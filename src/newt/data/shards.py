"""Taking some rows out of a sequence of chunks, so that the others are never decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from newt.data.records import Chunk


def pick(chunks: Iterator[Chunk], wanted: np.ndarray) -> Iterator[Chunk]:
    """The wanted rows of chunks, in their order.

    Args:
        chunks: all rows.
        wanted: places of rows among all, ascending.
    """
    start = 0
    for chunk in chunks:
        low, high = np.searchsorted(wanted, (start, start + len(chunk)))
        if high - low == len(chunk):
            yield chunk
        elif low < high:
            yield _some(chunk, (wanted[low:high] - start).tolist())
        start += len(chunk)


def _some(chunk: Chunk, places: list[int]) -> Chunk:
    return replace(
        chunk,
        payload=_taken(chunk.payload, places),
        lines=tuple(chunk.lines[place] for place in places) if chunk.lines else (),
        numbers=tuple(chunk.number(place) for place in places),
    )


def _taken(payload: Any, places: list[int]) -> Any:
    return payload.take(places) if hasattr(payload, "take") else [payload[place] for place in places]
