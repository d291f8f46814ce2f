"""Which rows of the datasets to look at: by number, by text, by length, by what becomes of them.

The first rows are read and tokenized alone, however large the datasets are. What concerns all rows (the longest ones,
those that are dropped) is looked up in the prepared data; where there is none, it is made, or the rows are searched.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from newt.config.core import Data, RunControl
from newt.data.look import TRUNCATED, Explained, Lookup
from newt.data.mix import sample
from newt.data.prepare import Datasets, find_prepared, prepare
from newt.data.records import Chunk
from newt.data.rows import TokenRows
from newt.data.shards import pick
from newt.data.sources import Source
from newt.extend import DataPlan
from newt.support.errors import NewtError
from newt.support.log import progress

Order = Literal["longest", "shortest", "most-masked"]
_LENGTHS: Mapping[str, Callable[[Any, Any], Any]] = {
    "longest": lambda length, trained: -length,
    "shortest": lambda length, trained: length,
    "most-masked": lambda length, trained: trained / np.maximum(1, length),
}
"""What sorts first: smallest value of (length, trained tokens), numbers or arrays."""


@dataclass(frozen=True)
class Selection:
    """Which rows to look at.

    Attributes:
        count: how many.
        evaluation: rows of ``test_datasets``.
        dataset: number of one entry; None: all.
        numbers: rows with these numbers and no others.
        search: rows that hold this text, in any letter case.
        fate: rows that are dropped, or cut.
        order: the longest, the shortest, or those of which the least is trained.
    """

    count: int = 3
    evaluation: bool = False
    dataset: int | None = None
    numbers: tuple[int, ...] = ()
    search: str = ""
    fate: Literal["", "dropped", "truncated"] = ""
    order: Order | None = None


def select(plan: DataPlan, tokenizer: Any, wanted: Selection) -> list[Explained]:
    """The explained rows that a selection asks for.

    Raises:
        NewtError: there is no such dataset or row.
        DataError: a dataset cannot be read, or has to be prepared and cannot be.
    """
    if plan.stream and not wanted.evaluation and (wanted.fate or wanted.order):
        raise NewtError(f"--{wanted.fate or wanted.order} looks at all rows, and the training rows are streamed.")
    numbers = range(len(plan.eval_formats if wanted.evaluation else plan.formats))
    if wanted.dataset is not None:
        if wanted.dataset not in numbers:
            raise NewtError(f"--dataset {wanted.dataset}: there are {len(numbers)} datasets, the first is number 0.")
        numbers = range(wanted.dataset, wanted.dataset + 1)
    lookups = [Lookup(plan, tokenizer, number, evaluation=wanted.evaluation) for number in numbers]
    if wanted.numbers:
        return _numbered(lookups, wanted.numbers)
    if wanted.fate:
        found = _with_fate(plan, tokenizer, lookups, wanted)
        if wanted.order is None:
            return list(islice(found, wanted.count))
        key = _LENGTHS[wanted.order]
        return heapq.nsmallest(wanted.count, found, key=lambda row: key(row["length"], row["trained"]))
    if wanted.order is not None:
        return list(islice(_ordered(plan, tokenizer, lookups, wanted), wanted.count))
    each = max(1, -(-wanted.count // max(1, len(lookups))))
    return [row for lookup in lookups for row in islice(_first(lookup, wanted), each)][: wanted.count]


def _first(lookup: Lookup, wanted: Selection) -> Iterator[Explained]:
    source = lookup.source(counted=bool(wanted.search))
    if not wanted.search:
        for number, raw in _rows(source, size=wanted.count):
            yield lookup.explain(number, raw)
        return
    with progress(f"Searching {source.path}", len(source)) as advance:
        for number, raw in _rows(source):
            advance(1)
            if _holds(raw, wanted.search.casefold()):
                yield lookup.explain(number, raw)


def _numbered(lookups: Sequence[Lookup], numbers: Sequence[int]) -> list[Explained]:
    """Rows with these numbers, of each dataset that has them."""
    found: list[Explained] = []
    for lookup in lookups:
        raws = dict(_rows(lookup.source(), set(numbers)))
        found += [lookup.explain(number, raws[number]) for number in numbers if number in raws]
    for number in set(numbers) - {row["row"] for row in found}:
        sizes = ", ".join(f"{lookup.entry.path} has {len(lookup.source()):,} rows" for lookup in lookups)
        raise NewtError(f"--row {number}: there is no such row: {sizes}, and the first has the number 0.")
    return found


def _with_fate(plan: DataPlan, tokenizer: Any, lookups: Sequence[Lookup], wanted: Selection) -> Iterator[Explained]:
    """Rows that are dropped or cut, in their order. Those that are kept whole are known from prepared data."""
    prepared = _written(find_prepared(plan, tokenizer), wanted)
    for lookup in lookups:
        source = lookup.source()
        seed, entry = plan.cfg[RunControl].seed, lookup.entry
        part = set(sample(len(source), entry.shards, entry.shards_idx or 0, seed).tolist()) if entry.shards else None
        known: set[int] = set()
        if prepared is not None:
            own = prepared.dataset == lookup.number
            if wanted.fate == TRUNCATED:
                own &= prepared.lengths < lookup.limit
            known = {prepared.provenance(place)[1] for place in np.flatnonzero(own).tolist()}
        with progress(f"Searching {source.path}", len(source)) as advance:
            for place, (number, raw) in enumerate(_rows(source, without=known)):
                advance(1)
                if (part is None or place in part) and (not wanted.search or _holds(raw, wanted.search.casefold())):
                    row = lookup.explain(number, raw)
                    if row["fate"] == wanted.fate:
                        yield row


def _ordered(plan: DataPlan, tokenizer: Any, lookups: Sequence[Lookup], wanted: Selection) -> Iterator[Explained]:
    """Rows that are trained (or evaluated), sorted by what the prepared data say about them."""
    rows = _written(find_prepared(plan, tokenizer) or prepare(plan, tokenizer), wanted)
    assert rows is not None and wanted.order is not None
    chosen = np.flatnonzero(np.isin(rows.dataset, [lookup.number for lookup in lookups]))
    keys = _LENGTHS[wanted.order](rows.lengths[chosen], rows.trained[chosen])
    places = list(dict.fromkeys(rows.provenance(int(place)) for place in chosen[np.argsort(keys, kind="stable")]))
    by_number = {lookup.number: lookup for lookup in lookups}
    if wanted.search:
        found = {(lookup.number, row) for lookup in lookups for row in _matches(lookup.source(), wanted.search)}
        places = [place for place in places if place in found]
    by_number = {lookup.number: lookup for lookup in lookups}
    step = max(1, wanted.count)
    for at in range(0, len(places), step):
        group = places[at : at + step]
        raws = {}
        for number, lookup in by_number.items():
            numbers = {row for dataset, row in group if dataset == number}
            raws.update({(number, row): raw for row, raw in _rows(lookup.source(), numbers)} if numbers else {})
        yield from (by_number[dataset].explain(row, raws[dataset, row]) for dataset, row in group)


def _matches(source: Source, text: str) -> Iterator[int]:
    """Numbers of the rows that hold a text."""
    with progress(f"Searching {source.path}", len(source)) as advance:
        for number, raw in _rows(source):
            advance(1)
            if _holds(raw, text.casefold()):
                yield number


def _written(datasets: Datasets | None, wanted: Selection) -> TokenRows | None:
    """All rows of the file that holds the training rows, or those of ``test_datasets``."""
    rows = None if datasets is None else datasets.eval if wanted.evaluation else datasets.train
    return None if rows is None else TokenRows(rows.path)


def _rows(
    source: Source, numbers: set[int] | None = None, *, without: Iterable[int] = (), size: int = 256
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their numbers, all or some of them; the others are not decoded.

    Args:
        source: of the rows.
        numbers: those that are wanted; None: all.
        without: those that are not.
        size: rows to decode at a time.
    """
    left = None if numbers is None else len(numbers)
    for chunk in source.chunks(max(1, min(size, 256))):
        inside = [place for place in _places(chunk, numbers) if chunk.number(place) not in without]
        for part in pick(iter((chunk,)), np.array(inside, np.int64)):
            yield from ((part.number(place), row) for place, row in enumerate(part.rows()))
        if left is not None:
            left -= len(inside)
            if left <= 0:
                return


def _places(chunk: Chunk, numbers: set[int] | None) -> Iterable[int]:
    """Places in a chunk of the rows with these numbers."""
    if numbers is None:
        return range(len(chunk))
    if chunk.numbers:
        return [place for place, number in enumerate(chunk.numbers) if number in numbers]
    found = numbers.intersection(range(chunk.first, chunk.first + len(chunk)))
    return sorted(number - chunk.first for number in found)


def _holds(value: Any, text: str) -> bool:
    """Whether a text stands anywhere in a row; ``text`` is casefolded."""
    if isinstance(value, str):
        return text in value.casefold()
    if isinstance(value, Mapping):
        return any(_holds(item, text) for item in value.values())
    return isinstance(value, list | tuple) and any(_holds(item, text) for item in value)


# --------------------------------------------------------------------------- packing

SMALL = 5_000
"""Datasets with so few rows are prepared to show how they are packed."""


@dataclass(frozen=True)
class Packing:
    """How the training rows are packed.

    Attributes:
        capacity: tokens of a bin.
        rows: packed rows.
        tokens: of these.
        bins: how many.
        first: the first bins: (dataset, number of the row in it, tokens) of each of their rows.
    """

    capacity: int
    rows: int
    tokens: int
    bins: int
    first: Sequence[Sequence[tuple[str, int, int]]]


def packing(plan: DataPlan, tokenizer: Any, count: int = 12, *, force: bool = False) -> Packing | None:
    """The first bins of the training rows; None when rows are not packed, or when too many would have to be prepared.

    Args:
        plan: the data plan.
        tokenizer: as loaded.
        count: how many bins.
        force: prepare the data however large they are.
    """
    pack = plan.pack.get()
    if pack is None:
        return None
    entries = plan.cfg[Data].datasets or ()
    datasets = find_prepared(plan, tokenizer)
    if datasets is None:
        rows = sum(len(Lookup(plan, tokenizer, number).source()) for number in range(len(entries)))
        if rows > SMALL and not force:
            return None
        datasets = prepare(plan, tokenizer)
    train = datasets.train
    lengths = train.lengths
    order, offsets = pack(lengths, plan.cfg[RunControl].seed)
    first = []
    for number in range(min(count, len(offsets) - 1)):
        inside = order[offsets[number] : offsets[number + 1]].tolist()
        places = [(train.provenance(row), int(lengths[row])) for row in inside]
        first.append([(entries[dataset].path, row, length) for (dataset, row), length in places])
    capacity = int(getattr(pack, "capacity", 0)) or int(max(map(_tokens, first), default=1))
    return Packing(capacity, len(train), int(lengths.sum(dtype=np.int64)), len(offsets) - 1, first)


def _tokens(rows: Sequence[tuple[str, int, int]]) -> int:
    return sum(length for *_, length in rows)
