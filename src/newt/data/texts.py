"""Texts to token ids: with the standard tokenizer, or with an exact faster one where that pays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from newt.data import fast
from newt.data.control import Placed
from newt.data.spelling import Ids, Spelling, joined

_WORTH = 4_000_000
"""Characters after which the faster tokenizer is loaded: the standard one reads as many while that takes."""
_SAMPLE = 64
"""Texts of the data that both tokenizers must agree about."""

Offsets = list[tuple[int, int]]
"""Characters (begin, end) of each token."""


class TextEncoder:
    """Encodes texts of one tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers.

    Attributes:
        tokenizer: the same.
        notes: what the user should know, once.
        is_fast: whether the faster tokenizer is used.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.notes: list[str] = []
        self.is_fast = False
        self._backend = tokenizer.backend_tokenizer
        self._encode = fast.standard(self._backend)
        self._read: int | None = 0
        self._sample: Sequence[str] = ()
        self._greedy = {i: t.content for i, t in tokenizer.added_tokens_decoder.items() if t.lstrip or t.rstrip}

    @cached_property
    def spelling(self) -> Spelling | None:
        """Bytes of the tokens, None if they do not spell the text."""
        return Spelling.of(self.tokenizer)

    def encode(self, texts: Sequence[str], split_special: bool = False) -> Ids:
        """Ids of texts, without the special tokens that a tokenizer adds.

        Args:
            texts: the texts.
            split_special: special tokens in them are plain text.
        """
        if self._read is not None:
            self._read += sum(map(len, texts))
            self._sample = texts
            self.expect(1)
        return self._encode(texts, split_special)

    def encode_pieces(self, rows: Sequence[tuple[str, Sequence[Placed] | None]]) -> Ids:
        """Ids of texts that are cut into pieces, whose text never becomes a special token."""
        cut = [(text, pieces or ()) for text, pieces in rows]
        texts = [text[p.begin : p.end] for text, pieces in cut for p in pieces if p.token is None]
        found, at = self.encode(texts, split_special=True), iter(range(len(texts)))
        whole = []
        for _, pieces in cut:
            parts = [found.of(next(at)) if p.token is None else np.array([p.token], np.int32) for p in pieces]
            whole.append(np.concatenate([np.zeros(0, np.int32), *parts]))
        return joined(whole)

    def expect(self, times: float) -> None:
        """Change to the faster tokenizer if so many times what was read is worth it."""
        if self._read is not None and self._read * times > _WORTH:
            self.speed_up(self._sample)

    def speed_up(self, sample: Sequence[str]) -> None:
        """Change to the faster tokenizer, if it is installed and agrees about the sample."""
        self._read = None
        encode, note = fast.load(self._backend, list(sample[:_SAMPLE]))
        if encode is not None:
            self._encode, self.is_fast = encode, True
        if note is not None:
            self.notes.append(note)

    def keep_standard(self) -> None:
        """Use the standard tokenizer however much there is to read."""
        self._read = None

    # ------------------------------------------------------------------ the standard tokenizer

    def standard(self, text: str, special: bool) -> list[int]:
        """Ids of one text, with or without the special tokens that the tokenizer adds."""
        ids: list[int] = self._encoding(text, special=special, split_special=False).ids
        return ids

    def located(self, text: str, pieces: Sequence[Placed] | None = None) -> tuple[list[int], Offsets]:
        """Ids and characters of each token, as the tokenizer tells them.

        Args:
            text: the text.
            pieces: cut it into these, whose text never becomes a special token.
        """
        if pieces is None:
            encoding = self._encoding(text, special=False, split_special=False)
            return list(encoding.ids), self._own_blanks(encoding.ids, encoding.offsets, text)
        ids: list[int] = []
        offsets: Offsets = []
        for piece in pieces:
            if piece.token is not None:
                ids.append(piece.token)
                offsets.append((piece.begin, piece.end))
                continue
            encoding = self._encoding(text[piece.begin : piece.end], special=False, split_special=True)
            ids += encoding.ids
            offsets += [(begin + piece.begin, end + piece.begin) for begin, end in encoding.offsets]
        return ids, offsets

    def _encoding(self, text: str, special: bool, split_special: bool) -> Any:
        self._backend.no_truncation()
        self._backend.no_padding()
        before = self._backend.encode_special_tokens
        self._backend.encode_special_tokens = split_special
        try:
            return self._backend.encode(text, add_special_tokens=special)
        finally:
            self._backend.encode_special_tokens = before

    def _own_blanks(self, ids: Sequence[int], offsets: Offsets, text: str) -> Offsets:
        """Blanks that an added token swallows beside it are not its own."""
        for i, id_ in enumerate(ids) if self._greedy else ():
            content = self._greedy.get(id_)
            if content is not None and (at := text.find(content, *offsets[i])) >= 0:
                offsets[i] = (at, at + len(content))
        return offsets


def text_encoder(tokenizer: Any) -> TextEncoder:
    """The encoder of a tokenizer; its datasets share one, because it is slow to make."""
    return _made(tokenizer, len(tokenizer))


@lru_cache(maxsize=2)
def _made(tokenizer: Any, size: int) -> TextEncoder:
    """``size``: tokens may have been added since the last call."""
    return TextEncoder(tokenizer)
