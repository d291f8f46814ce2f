"""Special tokens in what rows say: who writes ``<|im_end|>`` into a message could end a turn with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from newt.data.trace import Span
from newt.extend import Conversation, FormattedRow, Text

_PLAIN_ROLE = re.compile(r"\w[\w -]*")


class Placed(NamedTuple):
    """A piece of a text: the characters ``begin:end``, and the id of the special token that they are (None: text)."""

    begin: int
    end: int
    token: int | None


class ControlTokens:
    """The special tokens of a tokenizer, looked for in text.

    Args:
        tokenizer: a fast tokenizer of transformers.

    Attributes:
        contents: their texts.
    """

    def __init__(self, tokenizer: Any) -> None:
        named = set(tokenizer.all_special_tokens)
        added = tokenizer.added_tokens_decoder.items()
        self._tokens = {t.content: (id_, t) for id_, t in added if t.content and (t.special or t.content in named)}
        self.contents = named | set(self._tokens)
        by_length = sorted(self._tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, by_length)) or r"(?!)")
        self._starts = sorted({token[:2] for token in self._tokens})

    def said_by(self, row: FormattedRow) -> set[str]:
        """The special tokens whose text stands in what a row says."""
        said: set[str] = set()
        for text in _strings_of(row):
            if any(start in text for start in self._starts):
                said.update(self._pattern.findall(text))
        return said

    def pieces(self, text: str, said: Iterable[tuple[int, int]]) -> list[Placed]:
        """Cut a text at its special tokens, except those in (or across the border of) what a row says.

        Args:
            text: the text.
            said: characters (begin, end) that a row says.
        """
        pieces: list[Placed] = []
        at = 0
        for begin, end in _gaps(len(text), said):
            for found in self._pattern.finditer(text, begin, end):
                id_, token = self._tokens[found.group()]
                low, high = found.span()
                if token.single_word and re.search(r"\w", text[max(0, low - 1) : low] + text[high : high + 1]):
                    continue
                low = len(text[at:low].rstrip()) + at if token.lstrip else low
                high = len(text) - len(text[high:].lstrip()) if token.rstrip else high
                pieces += [Placed(at, low, None)] if at < low else []
                pieces.append(Placed(low, high, id_))
                at = high
        return [*pieces, Placed(at, len(text), None)] if at < len(text) else pieces


def _gaps(length: int, said: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What lies between intervals."""
    at = 0
    for begin, end in sorted(said):
        if at < begin:
            yield at, begin
        at = max(at, end)
    if at < length:
        yield at, length


def said_spans(text: str, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Characters of a rendered conversation that its row says.

    The name of a role is the template's: templates write ``<|user|>`` with it.
    """
    return [
        (begin, end)
        for begin, end, source, _ in spans
        if begin < end and not (source.field == "role" and _PLAIN_ROLE.fullmatch(text[begin:end]))
    ]


_FIRST = ", first in "


def note(token: str, place: str, split: bool) -> str:
    """What the data report says about rows that say a special token."""
    read = "is plain text" if split else "is read as that token (split_special_tokens: true makes it plain text)"
    return f"special token {token!r} in the text of rows {read}{_FIRST}{place}"


def join_notes(notes: Counter[str], more: Mapping[str, int]) -> None:
    """Add notes of later rows, which do not change what was first."""
    for text, count in more.items():
        head, found, _ = text.partition(_FIRST)
        known = next((key for key in notes if key.startswith(head + found)), text) if found else text
        notes[known] += count


def _strings_of(row: FormattedRow) -> Iterator[str]:
    if isinstance(row, Conversation):
        for message in row.messages:
            for value in message.values():
                if isinstance(value, str):
                    yield value
                elif value is not None:
                    yield from _strings(value)
        yield from _strings(row.tools or ())
    elif isinstance(row, Text):
        for segment in row.segments:
            for begin, end in segment.said:
                yield segment.text[begin:end]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
