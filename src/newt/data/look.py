"""Token rows as people look at them: with the reason for every label, or as plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from newt.config.core import Batch, Data, Dataset
from newt.data.encode import Encoder, format_row
from newt.data.records import Chunk
from newt.data.rows import TokenRows
from newt.data.sources import read
from newt.data.tokenize import RowTokenizer
from newt.extend import DataPlan, Format
from newt.support.errors import DataError


def explain_rows(plan: DataPlan, tokenizer: Any, count: int, *, evaluation: bool = False) -> list[dict[str, Any]]:
    """Explain the first rows of each dataset.

    Args:
        plan: the data plan.
        tokenizer: as loaded.
        count: rows in all, shared evenly between the datasets.
        evaluation: rows of ``test_datasets`` instead.

    Returns:
        One mapping for each row: ``dataset``, ``row``, ``length``, ``trained``, ``tokens`` as lists
        (text, id, label, reason, turn) and the ``raw`` row. A row that cannot be used has an ``error`` instead.
    """
    data = plan.cfg[Data]
    entries = (data.test_datasets if evaluation else data.datasets) or ()
    formats = plan.eval_formats if evaluation else plan.formats
    each = max(1, -(-count // max(1, len(entries))))
    rows: list[dict[str, Any]] = []
    for entry, fmt in zip(entries, formats, strict=True):
        rows += islice(_explain(plan, tokenizer, entry, fmt, "test" if evaluation else "train"), each)
    return rows[:count]


def _explain(plan: DataPlan, tokenizer: Any, entry: Dataset, fmt: Format, split: str) -> Iterator[dict[str, Any]]:
    cutter = RowTokenizer(tokenizer, plan.cfg, fmt, plan.cfg[Batch].sequence_len)
    for number, raw in enumerate(read(entry, default_split=split, cfg=plan.cfg)):
        shown: dict[str, Any] = {"dataset": entry.path, "row": number, "raw": raw}
        try:
            tokens = cutter.explain(format_row(fmt, raw))
        except DataError as error:
            yield {**shown, "length": 0, "trained": 0, "tokens": [], "error": str(error)}
            continue
        trained = sum(token.label != -100 for token in tokens)
        cells = [[token.text, token.id, token.label, token.reason, token.turn] for token in tokens]
        yield {**shown, "length": len(tokens), "trained": trained, "tokens": cells}


def tokenize_rows(
    plan: DataPlan, tokenizer: Any, rows: Iterable[Mapping[str, Any]], dataset: int = 0
) -> list[dict[str, list[int]]]:
    """Token rows of raw rows, with everything that preprocessing does to a row: formatting, cutting, dropping.

    Args:
        plan: the data plan.
        tokenizer: as loaded.
        rows: raw rows of one dataset.
        dataset: number of its entry in ``datasets``.

    Returns:
        ``input_ids`` and ``labels`` of every output row, in the order of the rows.

    Raises:
        DataError: names the row that cannot be used.
    """
    entries = plan.cfg[Data].datasets or ()
    encoder = Encoder(plan, tokenizer, plan.formats[dataset], plan.cfg[Batch].sequence_len, "sequence_len")
    columns = encoder(Chunk(entries[dataset].path, 0, [dict(row) for row in rows], _payload)).columns
    ends = np.cumsum(columns["lengths"])[:-1]
    pairs = zip(np.split(columns["input_ids"], ends), np.split(columns["labels"], ends), strict=True)
    return [{"input_ids": ids.tolist(), "labels": labels.tolist()} for ids, labels in pairs if len(ids)]


def _payload(chunk: Chunk) -> list[dict[str, Any]]:
    return list(chunk.payload)


def stored_rows(rows: TokenRows) -> Iterator[dict[str, list[int]]]:
    """All rows of the file behind ``rows``, in the order of the datasets, as :func:`tokenize_rows` gives them."""
    everything = TokenRows(rows.path)
    for number in range(len(everything)):
        row = everything[number]
        yield {"input_ids": row["input_ids"].tolist(), "labels": row["labels"].tolist()}
