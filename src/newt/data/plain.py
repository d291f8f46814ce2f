"""Plain text to token rows: segments that are tokenized apart, or as one text."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from newt.data.control import ControlTokens, Placed
from newt.data.spelling import Ids
from newt.data.texts import TextEncoder
from newt.data.tokens import IGNORED, ExplainedToken, TokenRow
from newt.data.windows import windows
from newt.extend import Segment, Text

_Piece = tuple[list[int], list[bool], str]
"""Ids, which of them are trained, and why."""


class TextRows:
    """Makes token rows of plain text.

    Args:
        texts: encoder of the tokenizer.
        limit: tokens of a piece where a text is split.
        control: the special tokens that text of a row must not become; None: it may.
    """

    def __init__(self, texts: TextEncoder, limit: int, control: ControlTokens | None) -> None:
        self._texts = texts
        self._limit = limit
        self._control = control
        self._tokenizer = texts.tokenizer
        self._eos: int | None = texts.tokenizer.eos_token_id

    def encode(self, rows: Sequence[Text]) -> Iterator[list[TokenRow]]:
        """Token rows of each row (several only for a split text)."""
        apart = [segment for row in rows if not row.joined for segment in row.segments]
        found = self._ids(apart)
        ids = iter(found.of(i).tolist() for i in range(len(apart)))
        for row in rows:
            pieces = self._joined(row) if row.joined else self._apart(row, [next(ids) for _ in row.segments])
            yield self._rows(row, pieces)

    def explain(self, row: Text) -> list[ExplainedToken]:
        """Every token of a row with its label and the reason for it."""
        found = self._ids(row.segments)
        ids = [found.of(i).tolist() for i in range(len(row.segments))]
        return [
            ExplainedToken(id_, self._tokenizer.decode([id_]), id_ if train else IGNORED, reason, None)
            for piece, trained, reason in self._ended(row, self._joined(row) if row.joined else self._apart(row, ids))
            for id_, train in zip(piece, trained, strict=True)
        ]

    def _rows(self, row: Text, pieces: Iterator[_Piece]) -> list[TokenRow]:
        ids: list[int] = []
        labels: list[int] = []
        for piece, trained, _ in self._ended(row, pieces):
            ids += piece
            labels += [id_ if train else IGNORED for id_, train in zip(piece, trained, strict=True)]
        if row.overlapping:
            return [_token_row(*window) for window in windows(ids, labels, self._opening, self._limit)]
        step = self._limit if row.split else max(1, len(ids))
        starts = range(0, max(1, len(ids)), step)
        return [_token_row(ids[i : i + step], labels[i : i + step]) for i in starts]

    def _ended(self, row: Text, pieces: Iterator[_Piece]) -> Iterator[_Piece]:
        """The pieces, and the end token if it is missing."""
        last: int | None = None
        for ids, trained, reason in pieces:
            last = ids[-1] if ids else last
            yield ids, trained, reason
        if row.eos and self._eos is not None and last != self._eos:
            yield [self._eos], [bool(row.segments) and row.segments[-1].train], "end token"

    def _apart(self, row: Text, found: Sequence[list[int]]) -> Iterator[_Piece]:
        for i, (segment, ids) in enumerate(zip(row.segments, found, strict=True)):
            if row.bos and i == 0:
                ids = self._opened(segment, ids)
            yield ids, [segment.train] * len(ids), segment.reason

    def _joined(self, row: Text) -> Iterator[_Piece]:
        """One tokenization of the whole text. Each token belongs to the segment in which it ends."""
        at, fields = 0, []
        for segment in row.segments:
            fields += [(begin + at, end + at) for begin, end in segment.said]
            at += len(segment.text)
        whole = Segment("".join(segment.text for segment in row.segments), True, fields=fields)
        ids, offsets = self._texts.located(whole.text, self._pieces(whole))
        before = len(self._opening) if row.bos else 0
        ids, offsets = self._opening[:before] + ids, [(0, 0)] * before + offsets
        done = begin = 0
        for segment in row.segments:
            end = begin + len(segment.text)
            inside = bisect_right(range(len(ids)), end, lo=done, key=lambda i: offsets[i][1])
            whole_tokens = [segment.train and offsets[i][0] >= begin for i in range(done, inside)]
            yield ids[done:inside], whole_tokens, segment.reason
            done, begin = inside, end

    # ------------------------------------------------------------------ ids

    def _ids(self, segments: Sequence[Segment]) -> Ids:
        if self._control is None:
            return self._texts.encode([segment.text for segment in segments])
        return self._texts.encode_pieces([(segment.text, self._pieces(segment)) for segment in segments])

    def _pieces(self, segment: Segment) -> list[Placed] | None:
        return None if self._control is None else self._control.pieces(segment.text, segment.said)

    @cached_property
    def _opening(self) -> list[int]:
        """What the tokenizer puts before a text."""
        return self._without_end(self._texts.standard("", special=True))

    def _opened(self, segment: Segment, ids: list[int]) -> list[int]:
        """Ids of the first segment, with the special tokens that the tokenizer puts before a text."""
        if self._control is not None or self._opens_plainly:
            return self._opening + ids
        return self._without_end(self._texts.standard(segment.text, special=True))

    @cached_property
    def _opens_plainly(self) -> bool:
        """Whether the tokenizer changes nothing else of a text before which it puts its tokens."""
        return all(
            self._without_end(self._texts.standard(text, special=True))
            == self._opening + self._texts.standard(text, special=False)
            for text in ("a", " b", "\nc d")
        )

    def _without_end(self, ids: list[int]) -> list[int]:
        """The end token that some tokenizers add is left to the row."""
        adds_end = self._texts.standard("a", special=True)[-1:] == [self._eos]
        return ids[:-1] if adds_end and ids[-1:] == [self._eos] else ids


def _token_row(ids: Sequence[int], labels: Sequence[int]) -> TokenRow:
    return TokenRow(np.array(ids, dtype=np.int32), np.array(labels, dtype=np.int32))
