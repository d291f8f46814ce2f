"""The bytes that each token stands for, and from them the place of every token in its text.

For vocabularies whose tokens spell the text exactly (byte-level BPE, and BPE with byte fallback) the bytes of the
tokens, one after the other, are the text. Then places need no help of the tokenizer: they are sums of lengths, for a
whole batch at once. That the bytes are the text is compared for every row; where a tokenizer rewrote something
(Unicode normalization, blanks that a token swallows) the row is not claimed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_BLANK = "\u2581"
"""How SentencePiece writes a blank."""


class Ids(NamedTuple):
    """Token ids of several texts, one after the other.

    Attributes:
        ids: int32 (tokens,).
        bounds: int64 (texts + 1,): text i has the ids ``bounds[i]:bounds[i + 1]``.
    """

    ids: np.ndarray
    bounds: np.ndarray

    def of(self, text: int) -> np.ndarray:
        """Ids of one text, a view."""
        return self.ids[self.bounds[text] : self.bounds[text + 1]]

    def select(self, texts: np.ndarray) -> Ids:
        """Those of some texts, in order."""
        return joined([self.of(int(text)) for text in texts])


def joined(parts: Sequence[np.ndarray]) -> Ids:
    """Ids of several texts from those of each."""
    bounds = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=bounds[1:])
    return Ids(np.concatenate([np.zeros(0, np.int32), *parts], dtype=np.int32), bounds)


class Spelling:
    """Bytes of every token of a vocabulary.

    Args:
        tokens: id -> bytes.
    """

    def __init__(self, tokens: dict[int, bytes]) -> None:
        self._lengths = np.zeros(max(tokens, default=-1) + 1, np.int64)
        for id_, spelled in tokens.items():
            self._lengths[id_] = len(spelled)
        self._begins = np.cumsum(self._lengths) - self._lengths
        self._bytes = np.frombuffer(b"".join(tokens[id_] for id_ in sorted(tokens)), np.uint8)

    @classmethod
    def of(cls, tokenizer: Any) -> Spelling | None:
        """The spelling of a fast tokenizer of transformers; None if its tokens do not spell their text."""
        backend = tokenizer.backend_tokenizer
        kind = _kind(backend)
        if kind is None:
            return None
        vocabulary = backend.get_vocab(with_added_tokens=False)
        spell = _byte_level if kind == "ByteLevel" else _with_fallback
        tokens = dict(zip(vocabulary.values(), spell(list(vocabulary)), strict=True))
        for id_, added in backend.get_added_tokens_decoder().items():
            # Added tokens of such vocabularies may be runs of blanks.
            content = added.content.replace(_BLANK, " ") if kind == "ByteFallback" else added.content
            tokens[id_] = content.encode()
        return cls(tokens)

    def lengths(self, ids: np.ndarray) -> np.ndarray:
        """Bytes of each token, int64 (tokens,)."""
        found: np.ndarray = self._lengths[ids]
        return found

    def matching(self, ids: Ids, data: Sequence[bytes]) -> np.ndarray:
        """Which texts (UTF-8) are spelled exactly by their tokens: bool (texts,)."""
        if ids.ids.size and (ids.ids.max() >= len(self._lengths) or ids.ids.min() < 0):
            return np.zeros(len(data), bool)
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths(ids.ids))])
        sizes = np.array([len(text) for text in data], np.int64)
        fits: np.ndarray = np.equal(np.diff(ends[ids.bounds]), sizes)
        chosen = np.flatnonzero(fits)
        some = ids if len(chosen) == len(data) else ids.select(chosen)
        written = np.frombuffer(b"".join([data[int(i)] for i in chosen]), np.uint8)
        wrong = np.flatnonzero(np.not_equal(self._spelled(some.ids), written))
        if wrong.size:
            borders = np.cumsum(sizes[chosen])
            fits[chosen[np.unique(np.searchsorted(borders, wrong, side="right"))]] = False
        return fits

    def _spelled(self, ids: np.ndarray) -> np.ndarray:
        """The bytes of tokens, uint8."""
        lengths = self._lengths[ids]
        before = np.cumsum(lengths) - lengths
        found: np.ndarray = self._bytes[np.repeat(self._begins[ids] - before, lengths) + np.arange(int(lengths.sum()))]
        return found


def _kind(backend: Any) -> str | None:
    """How tokens spell text: ``ByteLevel``, ``ByteFallback`` or unknown (None)."""
    if backend.decoder is None:
        return None
    decoder = json.loads(backend.decoder.__getstate__())
    if decoder["type"] == "ByteLevel":
        return "ByteLevel"
    steps = [step["type"] for step in decoder.get("decoders", ())]
    replaces = [step for step in decoder.get("decoders", ()) if step["type"] == "Replace"]
    plain = [{"type": "Replace", "pattern": {"String": _BLANK}, "content": " "}]
    return "ByteFallback" if steps == ["Replace", "ByteFallback", "Fuse"] and replaces == plain else None


_UNKNOWN = "\ufffd".encode()
"""Bytes of a token that no text is made of: a text with it never matches."""


def _alphabet() -> dict[int, int]:
    """Character -> byte of byte-level BPE, as published with GPT-2: printable bytes stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    return {**{byte: byte for byte in printable}, **{256 + i: byte for i, byte in enumerate(others)}}


def _byte_level(tokens: list[str]) -> list[bytes]:
    alphabet = _alphabet()
    known = set(map(chr, alphabet))
    return [token.translate(alphabet).encode("latin-1") if known.issuperset(token) else _UNKNOWN for token in tokens]


def _with_fallback(tokens: list[str]) -> list[bytes]:
    return [_byte(token) or token.replace(_BLANK, " ").encode() for token in tokens]


def _byte(token: str) -> bytes | None:
    """The byte of ``<0x41>``."""
    return bytes([int(token[3:5], 16)]) if len(token) == 6 and token.startswith("<0x") else None


def labels_of(
    ids: Ids, spelling: Spelling, texts: Sequence[str], trained: Sequence[Sequence[tuple[int, int]]], ignored: int
) -> np.ndarray:
    """Labels of texts that are spelled exactly: a token is trained if it lies wholly in a trained interval.

    Args:
        ids: of the texts.
        spelling: of the vocabulary.
        texts: the texts.
        trained: intervals of characters for each text, in order and apart.
        ignored: label of the other tokens.

    Returns:
        int32 (tokens,).
    """
    sizes = np.array([len(text) for text in texts], np.int64)
    counts = [len(intervals) for intervals in trained]
    edges = np.array([edge for intervals in trained for edge in intervals], np.int64).reshape(-1, 2)
    edges += np.repeat(np.cumsum(sizes) - sizes, counts)[:, None]
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    if len(data) != sizes.sum():  # characters are not bytes
        begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
        edges = begins[edges]
    ends = np.cumsum(spelling.lengths(ids.ids))
    first = np.searchsorted(ends - spelling.lengths(ids.ids), edges[:, 0], side="left")
    last = np.maximum(np.searchsorted(ends, edges[:, 1], side="right"), first)
    steps = np.zeros(len(ids.ids) + 1, np.int32)
    np.add.at(steps, first, 1)
    np.add.at(steps, last, -1)
    return np.where(np.cumsum(steps[:-1]) > 0, ids.ids, np.int32(ignored))
