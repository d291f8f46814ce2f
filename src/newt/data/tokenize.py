"""Formatted rows to token rows: ids, and labels that say which of them are trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from newt.config.core import Data
from newt.config.section import Config
from newt.data.chat import ChatRows
from newt.data.control import ControlTokens
from newt.data.mask import Masked
from newt.data.plain import TextRows
from newt.data.texts import text_encoder
from newt.data.tokens import IGNORED as IGNORED
from newt.data.tokens import ExplainedToken as ExplainedToken
from newt.data.tokens import RowError as RowError
from newt.data.tokens import TokenRow as TokenRow
from newt.extend import Conversation, Format, FormattedRow, Text, Tokens
from newt.support.errors import DataError, NewtError


class RowTokenizer:
    """Makes token rows from the rows of one format.

    Args:
        tokenizer: a fast tokenizer of transformers.
        cfg: the config.
        fmt: the format; its entry names the chat template.
        limit: tokens of a piece where a text is split (``sequence_len``).

    Attributes:
        notes: what was odd about rows, counted.
        control_rows: special token -> places in the last batch of the rows that say it.

    Raises:
        NewtError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any, cfg: Config, fmt: Format, limit: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise NewtError(
                f"{type(tokenizer).__name__} is not a fast tokenizer, exact masks need one. Set tokenizer_use_fast."
            )
        self.tokenizer = tokenizer
        self.notes: Counter[str] = Counter()
        self.control_rows: dict[str, list[int]] = {}
        self._vocabulary = len(tokenizer)
        fmt.bind(tokenizer)
        self.texts = text_encoder(tokenizer)
        self._control = ControlTokens(tokenizer)
        self._chat = ChatRows(self.texts, cfg, fmt, self._control, self.notes)
        self._plain = TextRows(self.texts, limit, self._control if cfg[Data].split_special_tokens else None)

    def encode(self, formatted: FormattedRow) -> list[TokenRow]:
        """Token rows of one formatted row (several only for a split text).

        Raises:
            DataError: the row cannot be used.
        """
        return self.encode_many([formatted])[0]

    def encode_many(self, rows: Sequence[FormattedRow]) -> list[list[TokenRow]]:
        """Token rows of many formatted rows, in order; the texts are tokenized in one call.

        Raises:
            RowError: a row cannot be used.
        """
        masks: dict[int, Masked] = {}
        for i, row in enumerate(rows):
            if isinstance(row, Conversation):
                try:
                    masks[i] = self._chat.mask(row)
                except DataError as error:
                    raise RowError(i, str(error)) from error
        chats = iter(self._chat.encode(list(masks.values())))
        texts = self._plain.encode([row for row in rows if isinstance(row, Text)])
        done: list[list[TokenRow]] = []
        for i, row in enumerate(rows):
            if isinstance(row, Conversation):
                self.notes.update(masks[i].notes)
                done.append([next(chats)])
            elif isinstance(row, Text):
                self.notes.update(row.notes)
                done.append(next(texts))
            else:
                done.append([self._checked(row, i)])
        self._note_control(rows)
        return done

    def _note_control(self, rows: Sequence[FormattedRow]) -> None:
        self.control_rows = {}
        for i, row in enumerate(rows):
            for token in self._control.said_by(row):
                self.control_rows.setdefault(token, []).append(i)
        self.notes.update(self.texts.notes)
        self.texts.notes.clear()

    def explain(self, formatted: FormattedRow) -> list[ExplainedToken]:
        """Every token of a row with its label and the reason for it."""
        if isinstance(formatted, Conversation):
            return self._chat.explain(formatted)
        if isinstance(formatted, Text):
            return self._plain.explain(formatted)
        row = self._checked(formatted, 0)
        return [
            ExplainedToken(int(id_), self.tokenizer.decode([int(id_)]), int(label), formatted.reason, None)
            for id_, label in zip(row.input_ids, row.labels, strict=True)
        ]

    def _checked(self, row: Tokens, index: int) -> TokenRow:
        """A row that came tokenized.

        Raises:
            RowError: lengths differ, or something is not a whole number, or no token of this tokenizer.
        """
        ids, labels = _array(row.input_ids, "input_ids", index), _array(row.labels, "labels", index)
        if len(ids) != len(labels):
            raise RowError(index, f"input_ids has {len(ids)} entries and labels {len(labels)}")
        foreign = ids[(ids < 0) | (ids >= self._vocabulary)]
        if len(foreign):
            raise RowError(index, f"{foreign[0]} is no token of this tokenizer, which has {self._vocabulary:,}")
        return TokenRow(ids.astype(np.int32), labels.astype(np.int32))


def _array(values: Sequence[int], name: str, index: int) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths inside
        array = np.zeros((1, 1))
    if array.size and (array.ndim != 1 or array.dtype.kind not in "iu"):
        raise RowError(index, f"{name} must be a list of whole numbers")
    return array.astype(np.int64)
