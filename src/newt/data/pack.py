"""Packing: which rows share one sequence of ``capacity`` tokens."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np


def best_fit_decreasing(
    lengths: np.ndarray, capacity: int, seed: int = 0, max_per_bin: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pack by best fit, longest first: each row goes into the fullest bin that has room for it.

    The work is done on the histogram of lengths. Where the fullest bin with room for a row of length L has r tokens
    left, the next r // L rows of this length go there too (no fuller bin has room for them), and what holds for one bin
    holds for all bins that look like it. The time therefore depends on ``capacity``, hardly on the number of rows.
    Where there are very many different lengths, long rows of nearly the same length count as equally long.

    Args:
        lengths: tokens of each row, integers (rows,), between 1 and ``capacity``.
        capacity: tokens of a bin.
        seed: decides which of the rows of one length goes where.
        max_per_bin: at most this many rows in a bin.

    Returns:
        order, int32 (rows,), and offsets, int64 (bins + 1,): bin b holds rows ``order[offsets[b]:offsets[b + 1]]``,
        longer ones first. Bins stand in the order in which they were opened.

    Raises:
        ValueError: a row is empty or longer than ``capacity``.
    """
    lengths = _classes(_checked(lengths, capacity), capacity)
    ranked = _longest_first(lengths, capacity, seed)
    bins = _Bins(capacity, max_per_bin or capacity)
    counts = np.bincount(lengths, minlength=capacity + 1)
    for length in np.flatnonzero(counts)[::-1].tolist():
        bins.add(length, int(counts[length]))
    return bins.plan(ranked)


def _checked(lengths: np.ndarray, capacity: int) -> np.ndarray:
    lengths = np.asarray(lengths)
    if len(lengths) and lengths.max() > capacity:
        raise ValueError(f"a row of {lengths.max()} tokens does not fit into {capacity}")
    if len(lengths) and lengths.min() < 1:
        raise ValueError("a row without tokens cannot be packed")
    return lengths


CLASSES = 4096
"""Different lengths from which on long rows are rounded; rows up to an eighth of the capacity never are."""


def _classes(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """The lengths to pack by: the true ones, or long ones rounded up where that saves most of the work.

    With a capacity of 32,768, rows of more than 4,096 tokens are rounded to multiples of 8. That halves the time and
    costs less than a thousandth of the bins: the lengths vary so much that no pair depends on an exact fit.
    """
    step = capacity // CLASSES
    if step < 2 or np.count_nonzero(np.bincount(lengths, minlength=1)) <= CLASSES:
        return lengths
    up = np.minimum(-(-lengths // step) * step, capacity)
    return np.where(lengths > capacity // 8, up, lengths)


def _longest_first(lengths: np.ndarray, capacity: int, seed: int) -> np.ndarray:
    shuffled = np.random.default_rng(seed).permutation(np.arange(len(lengths), dtype=np.int32))
    # NumPy sorts 16-bit keys by radix, ten times as fast as wider ones.
    kind = np.uint16 if capacity < 2**16 else np.int64
    keys = (capacity - lengths).astype(kind)
    ranked: np.ndarray = shuffled[np.argsort(keys[shuffled], kind="stable")]
    return ranked


class _Bins:
    """Groups of neighbouring bins that hold the same lengths, sorted by the room that they have left.

    A group is (first bin, number of bins, rows in each). What is put where is written down as steps
    (first bin, number of bins, rows that each gets, rows that each had), and carried out for all rows at once.
    """

    def __init__(self, capacity: int, limit: int) -> None:
        self.capacity = capacity
        self.limit = limit
        self.used = 0
        self.rooms: list[int] = []
        self.groups: dict[int, list[tuple[int, int, int]]] = {}
        self.steps: list[tuple[int, int, int, int]] = []

    def add(self, length: int, count: int) -> None:
        """Place ``count`` rows of one length, not longer than any before."""
        while count:
            place = bisect_left(self.rooms, length)
            if place == len(self.rooms):
                # One bin more than needed would stay empty: open what the rest fills, and not one more.
                each = min(self.capacity // length, self.limit)
                self._keep(self.capacity, (self.used, -(-count // each), 0))
                self.used += -(-count // each)
                place = bisect_left(self.rooms, length)
            room = self.rooms[place]
            group = self.groups[room].pop()
            if not self.groups[room]:
                del self.groups[room]
                del self.rooms[place]
            count -= self._fill(group, room, length, count)

    def _fill(self, group: tuple[int, int, int], room: int, length: int, count: int) -> int:
        """Put rows into the bins of a group; returns how many."""
        first, number, held = group
        each = min(room // length, self.limit - held)
        full = min(number, count // each)
        if full:
            self._put(first, full, each, held, room - each * length)
        rest = min(count - full * each, each) if full < number else 0
        if rest:
            self._put(first + full, 1, rest, held, room - rest * length)
        untouched = number - full - bool(rest)
        if untouched:
            self._keep(room, (first + number - untouched, untouched, held))
        return full * each + rest

    def _put(self, first: int, number: int, each: int, held: int, room: int) -> None:
        self.steps.append((first, number, each, held))
        if room and held + each < self.limit:
            self._keep(room, (first, number, held + each))

    def _keep(self, room: int, group: tuple[int, int, int]) -> None:
        if room not in self.groups:
            self.groups[room] = []
            insort(self.rooms, room)
        self.groups[room].append(group)

    def plan(self, ranked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(order, offsets) for rows in the order in which they were placed."""
        first, number, each, held = np.array(self.steps, np.int64).reshape(-1, 4).T
        rows = number * each
        within = np.arange(len(ranked)) - np.repeat(np.cumsum(rows) - rows, rows)
        each_of_row = np.repeat(each, rows)
        bin_of_row = np.repeat(first, rows) + within // each_of_row
        slot = np.repeat(held, rows) + within % each_of_row
        offsets = np.concatenate([[0], np.cumsum(np.bincount(bin_of_row, minlength=self.used))]).astype(np.int64)
        order = np.empty(len(ranked), np.int32)
        order[offsets[bin_of_row] + slot] = ranked
        return order, offsets


def sequential(lengths: np.ndarray, capacity: int, max_per_bin: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pack rows in their order: a bin is closed when the next row does not fit. Returns as ``best_fit_decreasing``."""
    limit = max_per_bin or capacity
    offsets, room, held = [0], capacity, 0
    for row, length in enumerate(_checked(lengths, capacity).tolist()):
        if length > room or held == limit:
            offsets.append(row)
            room, held = capacity, 0
        room -= length
        held += 1
    if len(lengths):
        offsets.append(len(lengths))
    return np.arange(len(lengths), dtype=np.int32), np.array(offsets, np.int64)


def efficiency(lengths: np.ndarray, offsets: np.ndarray, capacity: int) -> float:
    """Share of the slots of all bins that hold a token; 1.0 when there are no bins."""
    bins = len(offsets) - 1
    return float(np.sum(lengths, dtype=np.int64) / (bins * capacity)) if bins else 1.0


def lower_bound_l2(lengths: np.ndarray, capacity: int) -> int:
    """Number of bins that no packing can do without (bound L2 of Martello and Toth, 1990).

    For each a up to capacity / 2: rows longer than capacity - a need a bin of their own, rows longer than
    capacity / 2 a bin each, and rows from a to capacity / 2 must go into what these leave, or into more bins.
    """
    counts = np.bincount(_checked(lengths, capacity), minlength=capacity + 1)
    number = np.concatenate([[0], np.cumsum(counts)])  # number[k]: rows shorter than k
    tokens = np.concatenate([[0], np.cumsum(counts * np.arange(capacity + 1))])
    half = capacity // 2
    small = np.arange(half + 1)
    alone = number[-1] - number[capacity - small + 1]
    large = number[capacity - small + 1] - number[half + 1]
    left = large * capacity - (tokens[capacity - small + 1] - tokens[half + 1])
    more = tokens[half + 1] - tokens[small] - left
    return int(np.max(alone + large + np.maximum(0, -(-more // capacity))))
