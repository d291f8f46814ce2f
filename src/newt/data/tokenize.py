"""Formatted rows to token rows: ids, and labels that say which of them are trained."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from newt.config.core import Template
from newt.config.section import Config
from newt.data.mask import Masked, Masker, Region, whole
from newt.data.render import ChatRenderer
from newt.data.template import resolve_template
from newt.extend import Conversation, Format, FormattedRow, Text, Tokens
from newt.support.errors import DataError, NewtError

IGNORED = -100
"""Label of a token that is not trained."""

_VERIFIED_ROWS = 4


class TokenRow(NamedTuple):
    """One training row: ``input_ids`` and ``labels``, both int32 (length,)."""

    input_ids: np.ndarray
    labels: np.ndarray


class ExplainedToken(NamedTuple):
    """A token with the reason for its label, and the message it belongs to."""

    id: int
    text: str
    label: int
    reason: str
    turn: int | None


class RowError(DataError):
    """A row of a batch cannot be used.

    Attributes:
        index: its place in the batch.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class RowTokenizer:
    """Makes token rows from the rows of one format.

    Args:
        tokenizer: a fast tokenizer of transformers.
        cfg: the config.
        fmt: the format; its entry names the chat template.
        limit: tokens of a piece where a text is split (``sequence_len``).

    Attributes:
        notes: what was odd about rows, counted.

    Raises:
        NewtError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: Any, cfg: Config, fmt: Format, limit: int) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise NewtError(
                f"{type(tokenizer).__name__} is not a fast tokenizer, exact masks need one. Set tokenizer_use_fast."
            )
        self.tokenizer = tokenizer
        self.cfg = cfg
        self.fmt = fmt
        self.limit = limit
        self.notes: Counter[str] = Counter()
        self._backend = tokenizer.backend_tokenizer
        self._unverified = _VERIFIED_ROWS
        self._eos = tokenizer.eos_token_id
        self._greedy = {
            id_: token.content for id_, token in tokenizer.added_tokens_decoder.items() if token.lstrip or token.rstrip
        }

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
                    masks[i] = self._mask(row)
                except DataError as error:
                    raise RowError(i, str(error)) from error
        encodings = dict(zip(masks, self._batch([m.text for m in masks.values()], special=False), strict=True))
        done: list[list[TokenRow]] = []
        for i, row in enumerate(rows):
            if isinstance(row, Conversation):
                self.notes.update(masks[i].notes)
                done.append([self._labelled(encodings[i], masks[i])])
            elif isinstance(row, Text):
                done.append(self._text_rows(row))
            else:
                done.append([_checked(row, i)])
        return done

    def explain(self, formatted: FormattedRow) -> list[ExplainedToken]:
        """Every token of a row with its label and the reason for it."""
        if isinstance(formatted, Conversation):
            return self._explain_conversation(formatted)
        if isinstance(formatted, Text):
            return [
                ExplainedToken(id_, self.tokenizer.decode([id_]), id_ if train else IGNORED, reason, None)
                for ids, train, reason in self._segments(formatted)
                for id_ in ids
            ]
        row = _checked(formatted, 0)
        return [
            ExplainedToken(int(id_), self.tokenizer.decode([int(id_)]), int(label), "given by the row", None)
            for id_, label in zip(row.input_ids, row.labels, strict=True)
        ]

    # ------------------------------------------------------------------ conversations

    @cached_property
    def _masker(self) -> Masker:
        template = resolve_template(self.fmt.entry, self.cfg, self.tokenizer)
        tokenizer = self.tokenizer
        added = tokenizer.added_tokens_decoder.values()
        special = {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}
        eot = self._end_of_turn(template)
        masker = Masker(ChatRenderer(template, tokenizer.special_tokens_map), tokenizer.eos_token, eot, special)
        for token in masker.written:
            if token != tokenizer.eos_token:
                self.notes[f"the chat template ends turns with {token!r}: used as one of eot_tokens"] += 1
        if masker.unknown_stop:
            self.notes[self._about_stop(masker.unknown_stop)] += 1
        elif not (eot or masker.written or "eos_token" in template or str(tokenizer.eos_token) in template):
            self.notes["the chat template ends turns with no token: list the tokens that end them in eot_tokens"] += 1
        return masker

    def _about_stop(self, stop: str) -> str:
        count = len(self._batch([stop], special=False)[0].ids)
        told = f"the chat template ends a turn with {stop!r}, not the end-of-sequence token"
        return told if count == 1 else f"{told}: it is {count} tokens of this tokenizer, add it under tokens"

    def _end_of_turn(self, template: str) -> list[str] | None:
        """The given tokens that end a turn, without those that the template never writes.

        Raises:
            NewtError: one of them is not a token.
        """
        given = self.cfg[Template].eot_tokens
        if given is None:
            return None
        eot = []
        for token in given:
            eos = token == self.tokenizer.eos_token and "eos_token" in template
            if token not in template and not eos:
                self.notes[f"eot_tokens: the chat template never writes {token!r}"] += 1
                continue
            ids = self._batch([token], special=False)[0].ids
            if not ids:
                raise NewtError(f"eot_tokens: encoding {token!r} failed, it is no token of this tokenizer.")
            if len(ids) > 1:
                raise NewtError(
                    f"eot_tokens: {token!r} is {len(ids)} tokens of this tokenizer, not one. Add it under tokens, "
                    "or, better, in the place of an unused token with added_tokens_overrides."
                )
            eot.append(token)
        return eot

    def _mask(self, row: Conversation) -> Masked:
        if not row.messages:
            raise DataError("the conversation has no messages")
        if row.train_on_eos != row.train_on_eot:
            self._check_policies(row)
        masked = self._masker(row)
        if self._unverified:
            self._unverified -= 1
            self._verify(row, masked.text)
        return masked

    def _check_policies(self, row: Conversation) -> None:
        """One token cannot follow two policies."""
        eot = self.cfg[Template].eot_tokens
        if eot is None or self.tokenizer.eos_token in eot:
            raise NewtError(
                f"train_on_eos: {row.train_on_eos} and train_on_eot: {row.train_on_eot} disagree about "
                f"{self.tokenizer.eos_token}: set them alike, or list other tokens in eot_tokens."
            )

    def _verify(self, row: Conversation, text: str) -> None:
        """Compare the first rows with the library's own rendering."""
        expected = self.tokenizer.apply_chat_template(
            [dict(message) for message in row.messages],
            tools=None if row.tools is None else list(row.tools),
            chat_template=self._masker.renderer.template,
            tokenize=False,
            **row.template_kwargs,
        )
        if text != expected:
            raise NewtError(
                "the chat template renders differently when traced: this is a bug in Newt, please report the template"
            )

    def _batch(self, texts: list[str], special: bool) -> list[Any]:
        """Encodings of texts, whole and unpadded."""
        if not texts:
            return []
        self._backend.no_truncation()
        self._backend.no_padding()
        encodings: list[Any] = self._backend.encode_batch(texts, add_special_tokens=special)
        return encodings

    def _labelled(self, encoding: Any, masked: Masked) -> TokenRow:
        ids = np.array(encoding.ids, dtype=np.int32)
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        # Asking for single tokens is cheaper than converting all offsets, which costs as much as tokenizing.
        chars = self._offsets(encoding, masked.text).__getitem__ if self._greedy else encoding.token_to_chars
        for begin, end in _trained(masked.regions):
            first, last = _inside(chars, len(ids), begin, end)
            labels[first:last] = ids[first:last]
        return TokenRow(ids, labels)

    def _offsets(self, encoding: Any, text: str) -> list[tuple[int, int]]:
        """Characters of each token. Blanks that an added token swallows beside it are not its own."""
        offsets: list[tuple[int, int]] = encoding.offsets
        for i, id_ in enumerate(encoding.ids) if self._greedy else ():
            content = self._greedy.get(id_)
            if content is not None and (at := text.find(content, *offsets[i])) >= 0:
                offsets[i] = (at, at + len(content))
        return offsets

    def _explain_conversation(self, row: Conversation) -> list[ExplainedToken]:
        masked = self._mask(row)
        encoding = self._batch([masked.text], special=False)[0]
        labels = self._labelled(encoding, masked).labels
        regions = whole(masked, row)
        ends = [region.end for region in regions]
        explained = []
        for id_, (begin, end), label in zip(encoding.ids, self._offsets(encoding, masked.text), labels, strict=True):
            region = regions[min(bisect_right(ends, begin), len(regions) - 1)]
            reason = region.reason
            crosses = end > region.end and region.train != _trains(regions, end)
            if crosses or (region.train and label == IGNORED):
                reason = "straddles the border of what is trained"
            text = masked.text[begin:end] or self.tokenizer.decode([id_])
            explained.append(ExplainedToken(id_, text, int(label), reason, region.turn))
        return explained

    # ------------------------------------------------------------------ texts

    def _text_rows(self, row: Text) -> list[TokenRow]:
        ids: list[int] = []
        labels: list[int] = []
        for piece, train, _ in self._segments(row):
            ids += piece
            labels += piece if train else [IGNORED] * len(piece)
        step = self.limit if row.split else max(1, len(ids))
        return [
            TokenRow(np.array(ids[i : i + step], dtype=np.int32), np.array(labels[i : i + step], dtype=np.int32))
            for i in range(0, len(ids), step)
        ] or [TokenRow(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32))]

    def _segments(self, row: Text) -> Iterator[tuple[list[int], bool, str]]:
        """Ids, whether they are trained, and why, of each segment and of the end token."""
        last: int | None = None
        for i, segment in enumerate(row.segments):
            special = row.bos and i == 0
            encoding = self._batch([segment.text], special=special)[0]
            ids = list(encoding.ids)
            if special and ids and ids[-1] == self._eos and encoding.special_tokens_mask[-1]:
                ids.pop()  # a prompt has no end token; the row gets its own below
            last = ids[-1] if ids else last
            yield ids, segment.train, segment.reason
        if row.eos and self._eos is not None and last != self._eos:
            yield [self._eos], bool(row.segments) and row.segments[-1].train, "end token"


def _trained(regions: Sequence[Region]) -> Iterator[tuple[int, int]]:
    """Trained characters as intervals, neighbours joined."""
    at: tuple[int, int] | None = None
    for region in regions:
        if not region.train:
            continue
        if at is not None and region.begin <= at[1]:
            at = (at[0], max(at[1], region.end))
        else:
            if at is not None:
                yield at
            at = (region.begin, region.end)
    if at is not None:
        yield at


def _inside(chars: Callable[[int], tuple[int, int]], count: int, begin: int, end: int) -> tuple[int, int]:
    """Tokens that lie wholly between two characters, as ``first:last``; ``chars`` gives the characters of a token.

    Some tokenizers trim blanks from the offsets: characters that no token claims belong to the token after them.
    """
    tokens = range(count)
    first = bisect_left(tokens, begin, key=lambda i: chars(i)[0])
    if first < count:
        claimed = chars(first - 1)[1] if first else 0
        if claimed < begin and claimed < chars(first)[0]:
            first += 1
    return first, bisect_right(tokens, end, lo=min(first, count), key=lambda i: chars(i)[1])


def _trains(regions: Sequence[Region], end: int) -> bool:
    return next((region.train for region in regions if region.begin < end <= region.end), False)


def _checked(row: Tokens, index: int) -> TokenRow:
    """A row that came tokenized.

    Raises:
        RowError: lengths differ, or something is not a whole number.
    """
    if len(row.input_ids) != len(row.labels):
        raise RowError(index, f"input_ids has {len(row.input_ids)} entries and labels {len(row.labels)}")
    arrays = []
    for name, values in (("input_ids", row.input_ids), ("labels", row.labels)):
        array = np.asarray(values)
        if array.size and (array.ndim != 1 or array.dtype.kind not in "iu"):
            raise RowError(index, f"{name} must be a list of whole numbers")
        arrays.append(array.astype(np.int32))
    return TokenRow(arrays[0], arrays[1])
