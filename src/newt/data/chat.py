"""Conversations to token rows: rendered once, labelled from the provenance of every character."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.control import ControlTokens, Placed, said_spans
from newt.data.mask import Masked, Masker, Region, whole
from newt.data.render import ChatRenderer
from newt.data.spelling import Ids, labels_of
from newt.data.template import resolve_template
from newt.data.texts import Offsets, TextEncoder
from newt.data.tokens import IGNORED, ExplainedToken, TokenRow
from newt.extend import Conversation, Format
from newt.support.errors import DataError, NewtError

_VERIFIED_ROWS = 4


class ChatRows:
    """Makes token rows of conversations.

    Args:
        texts: encoder of the tokenizer.
        cfg: the config.
        fmt: the format; its entry names the chat template.
        control: the special tokens of the tokenizer.
        notes: takes what is odd about rows.
    """

    def __init__(
        self, texts: TextEncoder, cfg: Config, fmt: Format, control: ControlTokens, notes: Counter[str]
    ) -> None:
        self._texts = texts
        self._cfg = cfg
        self._fmt = fmt
        self._control = control
        self._split = cfg[Data].split_special_tokens
        self._tokenizer = texts.tokenizer
        self._notes = notes
        self._unverified = _VERIFIED_ROWS

    # ------------------------------------------------------------------ the template

    @cached_property
    def _masker(self) -> Masker:
        template = resolve_template(self._fmt.entry, self._cfg, self._tokenizer)
        tokenizer = self._tokenizer
        eot = self._end_of_turn(template)
        renderer = ChatRenderer(template, tokenizer.special_tokens_map, trace_tools=self._split)
        masker = Masker(renderer, tokenizer.eos_token, eot, self._control.contents)
        for token in masker.written:
            if token != tokenizer.eos_token:
                self._notes[f"the chat template ends turns with {token!r}: used as one of eot_tokens"] += 1
        if masker.unknown_stop:
            self._notes[self._about_stop(masker.unknown_stop)] += 1
        elif not (eot or masker.written or "eos_token" in template or str(tokenizer.eos_token) in template):
            self._notes["the chat template ends turns with no token: list the tokens that end them in eot_tokens"] += 1
        return masker

    def _about_stop(self, stop: str) -> str:
        count = len(self._texts.standard(stop, special=False))
        told = f"the chat template ends a turn with {stop!r}, not the end-of-sequence token"
        return told if count == 1 else f"{told}: it is {count} tokens of this tokenizer, add it under tokens"

    def _end_of_turn(self, template: str) -> list[str] | None:
        """The given tokens that end a turn, without those that the template never writes.

        Raises:
            NewtError: one of them is not a token.
        """
        given = self._cfg[Template].eot_tokens
        if given is None:
            return None
        eot = []
        for token in given:
            eos = token == self._tokenizer.eos_token and "eos_token" in template
            if token not in template and not eos:
                self._notes[f"eot_tokens: the chat template never writes {token!r}"] += 1
                continue
            ids = self._texts.standard(token, special=False)
            if not ids:
                raise NewtError(f"eot_tokens: encoding {token!r} failed, it is no token of this tokenizer.")
            if len(ids) > 1:
                raise NewtError(
                    f"eot_tokens: {token!r} is {len(ids)} tokens of this tokenizer, not one. Add it under tokens, "
                    "or, better, in the place of an unused token with added_tokens_overrides."
                )
            eot.append(token)
        return eot

    # ------------------------------------------------------------------ masks

    def mask(self, row: Conversation) -> Masked:
        """The text of a conversation and what of it is trained.

        Raises:
            DataError: the row cannot be used.
            NewtError: the settings cannot be used.
        """
        if not row.messages:
            raise DataError("the conversation has no messages")
        if row.train_on_eos != row.train_on_eot:
            self._check_policies(row)
        masked = self._masker(row)
        if masked.endless and {row.train_on_eos, row.train_on_eot} != {"none"} and _is_answer(row):
            raise DataError(
                "the chat template writes no stop token behind the last answer, so the model would not learn to stop. "
                "End the answers with {{ eos_token }} in the template, name what ends them in eot_tokens, or set "
                "train_on_eos: none"
            )
        if masked.unplaced and self._split and self._control.said_by(row):
            raise DataError(
                "split_special_tokens: the chat template rewrites text in a way that cannot be followed, so it is "
                "unknown which special tokens the row says"
            )
        if self._unverified:
            self._unverified -= 1
            self._verify(row, masked)
        return masked

    def _check_policies(self, row: Conversation) -> None:
        """One token cannot follow two policies."""
        eot = self._cfg[Template].eot_tokens
        if eot is None or self._tokenizer.eos_token in eot:
            raise NewtError(
                f"train_on_eos: {row.train_on_eos} and train_on_eot: {row.train_on_eot} disagree about "
                f"{self._tokenizer.eos_token}: set them alike, or list other tokens in eot_tokens."
            )

    def _verify(self, row: Conversation, masked: Masked) -> None:
        """Compare the first rows with the library's own rendering, and their pieces with the whole."""
        expected = self._tokenizer.apply_chat_template(
            [dict(message) for message in row.messages],
            tools=None if row.tools is None else list(row.tools),
            chat_template=self._masker.renderer.template,
            tokenize=False,
            **row.template_kwargs,
        )
        if masked.text != expected:
            raise NewtError(
                "the chat template renders differently when traced: this is a bug in Newt, please report the template"
            )
        if self._split and not self._control.said_by(row):
            in_pieces, _ = self._texts.located(masked.text, self._pieces(masked))
            if in_pieces != self._texts.standard(masked.text, special=False):
                raise NewtError(
                    "split_special_tokens: this tokenizer reads text behind a special token differently from text "
                    "on its own. Remove split_special_tokens."
                )

    # ------------------------------------------------------------------ ids and labels

    def encode(self, masked: Sequence[Masked]) -> list[TokenRow]:
        """Token rows of masked conversations, tokenized in one call."""
        if not masked:
            return []
        texts = [each.text for each in masked]
        data = [text.encode() for text in texts]
        if self._split:
            ids = self._texts.encode_pieces([(each.text, self._pieces(each)) for each in masked])
        else:
            ids = self._texts.encode(texts)
        spelling = self._texts.spelling
        exact = np.zeros(len(texts), bool) if spelling is None else spelling.matching(ids, data)
        rows: dict[int, TokenRow] = {i: self._located(masked[i]) for i in np.flatnonzero(~exact).tolist()}
        chosen = np.flatnonzero(exact)
        if spelling is not None and chosen.size:
            some = ids if len(chosen) == len(texts) else ids.select(chosen)
            trained = [list(_trained(masked[i].regions)) for i in chosen.tolist()]
            labels = labels_of(some, spelling, [texts[i] for i in chosen.tolist()], trained, IGNORED)
            found = zip(chosen.tolist(), _cut(some, labels), strict=True)
            rows.update(found)
        return [rows[i] for i in range(len(texts))]

    def _pieces(self, masked: Masked) -> list[Placed]:
        return self._control.pieces(masked.text, said_spans(masked.text, [*masked.spans, *masked.tools]))

    def _located(self, masked: Masked) -> TokenRow:
        """A token row by the places that the tokenizer tells."""
        return _labelled(*self._texts.located(masked.text, self._pieces(masked) if self._split else None), masked)

    # ------------------------------------------------------------------ explanations

    def explain(self, row: Conversation) -> list[ExplainedToken]:
        """Every token of a row with its label and the reason for it."""
        masked = self.mask(row)
        ids, offsets = self._texts.located(masked.text, self._pieces(masked) if self._split else None)
        labels = self.encode([masked])[0].labels
        regions = whole(masked, row)
        ends = [region.end for region in regions]
        explained = []
        for id_, (begin, end), label in zip(ids, offsets, labels, strict=True):
            region = regions[min(bisect_right(ends, begin), len(regions) - 1)]
            reason = region.reason
            crosses = end > region.end and region.train != _trains(regions, end)
            if crosses or (region.train and label == IGNORED):
                reason = "straddles the border of what is trained"
            text = masked.text[begin:end] or self._tokenizer.decode([id_])
            explained.append(ExplainedToken(id_, text, int(label), reason, region.turn))
        return explained


def _is_answer(row: Conversation) -> bool:
    return row.messages[-1].get("role") == "assistant"


def _cut(ids: Ids, labels: np.ndarray) -> Iterator[TokenRow]:
    for begin, end in zip(ids.bounds[:-1].tolist(), ids.bounds[1:].tolist(), strict=True):
        yield TokenRow(ids.ids[begin:end], labels[begin:end])


def _labelled(ids: list[int], offsets: Offsets, masked: Masked) -> TokenRow:
    row = TokenRow(np.array(ids, dtype=np.int32), np.full(len(ids), IGNORED, dtype=np.int32))
    for begin, end in _trained(masked.regions):
        first, last = _inside(offsets, begin, end)
        row.labels[first:last] = row.input_ids[first:last]
    return row


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


def _inside(offsets: Offsets, begin: int, end: int) -> tuple[int, int]:
    """Tokens that lie wholly between two characters, as ``first:last``.

    Some tokenizers trim blanks from the offsets: characters that no token claims belong to the token after them.
    """
    count = len(offsets)
    tokens = range(count)
    first = bisect_left(tokens, begin, key=lambda i: offsets[i][0])
    if first < count:
        claimed = offsets[first - 1][1] if first else 0
        if claimed < begin and claimed < offsets[first][0]:
            first += 1
    return first, bisect_right(tokens, end, lo=min(first, count), key=lambda i: offsets[i][1])


def _trains(regions: Sequence[Region], end: int) -> bool:
    return next((region.train for region in regions if region.begin < end <= region.end), False)
