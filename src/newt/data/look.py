"""Token rows as people look at them: with the reason for every label, or as plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from newt.config.core import Batch, Data
from newt.data.encode import Encoder, format_row
from newt.data.records import Chunk
from newt.data.rows import IGNORE, TokenRows, trained_tokens
from newt.data.sources import Source, read
from newt.data.tokenize import ExplainedToken, RowTokenizer
from newt.extend import Conversation, DataPlan, FormattedRow, Text
from newt.support.errors import DataError

DROPPED, TRUNCATED, SPLIT = "dropped", "truncated", "split"
"""What may become of a row."""
CUT_OFF = "cut off: beyond the longest row"
PART = "\ufffd"
"""What the bytes of a part of a character decode to."""

Explained = dict[str, Any]
"""A row with its explained tokens, see :class:`Lookup`."""


class Lookup:
    """The rows of one dataset entry, explained one at a time.

    Args:
        plan: the data plan.
        tokenizer: as loaded.
        number: of the entry.
        evaluation: of ``test_datasets`` instead of ``datasets``.
    """

    def __init__(self, plan: DataPlan, tokenizer: Any, number: int, *, evaluation: bool = False) -> None:
        batch = plan.cfg[Batch]
        self.number = number
        self.fmt = (plan.eval_formats if evaluation else plan.formats)[number]
        self.entry = self.fmt.entry
        self._stream = bool(plan.stream) and not evaluation
        self.limit, self.setting = batch.sequence_len, "sequence_len"
        if evaluation and batch.eval_sequence_len:
            self.limit, self.setting = batch.eval_length, "eval_sequence_len"
        self._cfg = plan.cfg
        self._split = "test" if evaluation else "train"
        self._tokenizer = tokenizer
        make = plan.tokenize.get(RowTokenizer)
        assert make is not None
        self._rows = make(tokenizer, plan.cfg, self.fmt, self.limit)

    def source(self, *, counted: bool = True) -> Source:
        """The rows as they stand in the dataset; ``counted``: their number is asked for, also of a stream."""
        made = self.fmt.source(self._tokenizer)
        if made is not None:
            return made  # type: ignore[no-any-return]
        return read(self.entry, default_split=self._split, cfg=self._cfg, stream=self._stream and not counted)

    def explain(self, number: int, raw: Mapping[str, Any]) -> Explained:
        """Explain one row.

        Returns:
            ``dataset``, ``row``, ``length`` (before it is cut), ``trained``, ``tokens`` as lists (text, id, label,
            reason, turn), ``roles`` of the turns, ``fate`` (dropped, truncated, split or nothing), ``why`` and the
            ``raw`` row. A row that cannot be used has an ``error`` instead of tokens.
        """
        shown: Explained = {"dataset": self.entry.path, "row": number, "raw": dict(raw), "roles": [], "fate": ""}
        try:
            formatted = format_row(self.fmt, raw)
            tokens = self._rows.explain(formatted)
        except DataError as error:
            return {**shown, "length": 0, "trained": 0, "tokens": [], "fate": DROPPED, "error": str(error)}
        except UnicodeEncodeError:
            error_text = "holds half of a surrogate pair, which is not text."
            return {**shown, "length": 0, "trained": 0, "tokens": [], "fate": DROPPED, "error": error_text}
        fate, why = self._fate(tokens, formatted)
        kept = [token._replace(label=IGNORE, reason=CUT_OFF) for token in tokens[self.limit :]]
        tokens = [*tokens[: self.limit], *kept] if fate == TRUNCATED else tokens
        return {
            **shown,
            "length": len(tokens),
            "trained": sum(token.label != IGNORE for token in tokens),
            "tokens": [
                [text, token.id, token.label, token.reason, token.turn]
                for text, token in zip(self._texts(tokens), tokens, strict=True)
            ],
            "roles": _roles(formatted),
            "fate": fate,
            "why": why,
        }

    def _texts(self, tokens: Sequence[ExplainedToken]) -> list[str]:
        """The text of each token; a character of several tokens stands with the first of them."""
        texts = [token.text for token in tokens]
        parts = [PART in self._tokenizer.decode([token.id]) for token in tokens]
        begin = 0
        for is_part, group in groupby(parts):
            end = begin + sum(1 for _ in group)
            if is_part:
                whole = self._tokenizer.decode([token.id for token in tokens[begin:end]])
                texts[begin:end] = [whole, *[""] * (end - begin - 1)]
            begin = end
        return texts

    def _fate(self, tokens: Sequence[ExplainedToken], formatted: FormattedRow) -> tuple[str, str]:
        """What becomes of a row, and why: the rules of ``data.encode`` for one row."""
        length, data, limit = len(tokens), self._cfg[Data], self.limit
        if length < max(1, data.min_sample_len):
            return DROPPED, f"it has {length} tokens, and min_sample_len is {data.min_sample_len}"
        splits = isinstance(formatted, Text) and formatted.split
        if length > limit and isinstance(formatted, Text) and formatted.overlapping:
            return SPLIT, f"cut into overlapping windows of {limit:,} tokens; repeated tokens are not trained again"
        if length > limit and splits:
            return SPLIT, f"cut into {-(-length // limit)} rows of at most {limit:,} tokens"
        if length > limit and data.excess_length_strategy != "truncate":
            return DROPPED, f"it has {length:,} tokens, and {self.setting} is {limit:,}"
        if not trained_tokens(np.array([token.label for token in tokens[:limit]])):
            cut = " once it is cut" if length > limit else ""
            return DROPPED, f"no token of it is trained{cut}"
        if length > limit:
            return TRUNCATED, f"cut to the first {limit:,} of {length:,} tokens ({self.setting})"
        return "", ""


def _roles(formatted: FormattedRow) -> list[str]:
    if not isinstance(formatted, Conversation):
        return []
    return [str(message.get("role", "")) for message in formatted.messages]


def explain_rows(plan: DataPlan, tokenizer: Any, count: int, *, evaluation: bool = False) -> list[Explained]:
    """Explain the first rows of each dataset.

    Args:
        plan: the data plan.
        tokenizer: as loaded.
        count: rows in all, shared evenly between the datasets.
        evaluation: rows of ``test_datasets`` instead.

    Returns:
        One mapping for each row, see :meth:`Lookup.explain`.
    """
    from newt.data.selection import Selection, select

    return select(plan, tokenizer, Selection(count=count, evaluation=evaluation))


def tokenize_rows(
    plan: DataPlan,
    tokenizer: Any,
    rows: Iterable[Mapping[str, Any]],
    dataset: int = 0,
    *,
    evaluation: bool = False,
) -> list[dict[str, list[int]]]:
    """Token rows of raw rows, with everything that preprocessing does to a row: formatting, cutting, dropping.

    Args:
        plan: the data plan.
        tokenizer: as loaded.
        rows: raw rows of one dataset.
        dataset: number of its entry in ``datasets``.
        evaluation: in ``test_datasets`` instead.

    Returns:
        ``input_ids`` and ``labels`` of every output row, in the order of the rows.

    Raises:
        DataError: names the row that cannot be used.
    """
    lookup = Lookup(plan, tokenizer, dataset, evaluation=evaluation)
    encoder = Encoder(plan, tokenizer, lookup.fmt, lookup.limit, lookup.setting)
    columns = encoder(Chunk(lookup.fmt.entry.path, 0, [dict(row) for row in rows], _payload)).columns
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
