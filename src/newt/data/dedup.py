"""Rows that are equal: found by a digest of their tokens, 16 bytes a row."""

from __future__ import annotations

from array import array
from hashlib import blake2b

import numpy as np

IDS, LABELS = 0, 1
"""Columns of a digest: that of the token ids, that of the labels."""


def digest(ids: np.ndarray, labels: np.ndarray) -> bytes:
    """16 bytes: half of them of the token ids, half of them of the labels (BLAKE2b, RFC 7693)."""
    return b"".join(blake2b(np.asarray(one, np.int32).tobytes(), digest_size=8).digest() for one in (ids, labels))


class Digests:
    """The digests of the rows of one file, in their order; it grows in place."""

    def __init__(self) -> None:
        self._held = array("Q")

    def add(self, digests: bytes) -> None:
        """Append the digests of some rows, 16 bytes each."""
        self._held.frombytes(digests)

    def all(self) -> np.ndarray:
        """uint64 (rows, 2), a view: the columns are IDS and LABELS."""
        return np.frombuffer(self._held, np.uint64).reshape(-1, 2)


def repeats(digests: np.ndarray) -> np.ndarray:
    """Which rows have the ids and the labels of a row before them.

    Args:
        digests: uint64 (rows, 2).

    Returns:
        bool (rows,).
    """
    order = np.lexsort((digests[:, LABELS], digests[:, IDS]))  # stable: equal rows stay in their order
    equal = np.ones(max(0, len(order) - 1), bool)
    for column in (IDS, LABELS):
        ranked = digests[order, column]
        equal &= ranked[1:] == ranked[:-1]
    found = np.zeros(len(order), bool)
    found[order[1:][equal]] = True
    return found


def found_in(ids: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows have the token ids of one of the others, whatever their labels.

    Args:
        ids: uint64 (rows,), the IDS column.
        others: the same of the rows to look among.

    Returns:
        bool (rows,).
    """
    ranked = np.unique(others)
    if not len(ranked):
        return np.zeros(len(ids), bool)
    places = np.searchsorted(ranked, ids)
    places[places == len(ranked)] = 0
    return np.asarray(ranked[places] == ids)


def overlap(train: np.ndarray, evaluated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which training rows have the token ids of an evaluation row, and which evaluation rows those of a training row.

    Args:
        train: uint64 (rows,), the IDS column.
        evaluated: the same.
    """
    left = found_in(train, evaluated)
    return left, found_in(evaluated, train[left])
