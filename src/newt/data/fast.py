"""An exact faster tokenizer, where the extra ``fast`` is installed; nothing needs it.

The library (fastokens, Apache-2.0) reads the same ``tokenizer.json``. It tells no places of tokens: those come from
``data.spelling``. Before it is used it must give the ids of the standard tokenizer for texts of the data and for
strings that are known to be difficult; at the first difference the standard one stays, and the user is told.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from newt.data.spelling import Ids

Encode = Callable[[Sequence[str], bool], Ids]
"""(texts, whether special tokens are read as plain text) -> ids."""

_DIFFICULT = (
    "", " ", "  ", "\n", " \n\n  x", "\t\r\n", "don't I'LL we'Ve", "a  b   c    d", "1234567 3.14 x2y",
    "x\u00a0y\u2003z", "e\u0301 \u212b \ufb01 \u1e9b\u0323", "\u0301\u0301", "👩🏽\u200d🚀 🦑", "\ufeffa\u200b",
    "مرحبا אָ हिन्दी", "漢字かな 한글", "\u0130\u017f\u1e9e", "\x00\x01\x7f", "_" * 70, " " * 70, "\n" * 9,
    "def f(x):\n\treturn {'a': [1]}\n", "▁a▁ b", "<0x0A>",
)  # fmt: skip
_TOKENS = 64
"""Added tokens of the vocabulary that are tried; a vocabulary may have thousands."""


def standard(backend: Any) -> Encode:
    """The tokenizer of the tokenizers library as an ``Encode``."""

    def encode(texts: Sequence[str], split_special: bool) -> Ids:
        backend.no_truncation()
        backend.no_padding()
        before = backend.encode_special_tokens
        backend.encode_special_tokens = split_special
        try:
            found = [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        finally:
            backend.encode_special_tokens = before
        bounds = np.zeros(len(found) + 1, np.int64)
        np.cumsum([len(ids) for ids in found], out=bounds[1:])
        flat = np.fromiter(itertools.chain.from_iterable(found), np.int32, int(bounds[-1]))
        return Ids(flat, bounds)

    return encode


def load(backend: Any, sample: Sequence[str]) -> tuple[Encode | None, str | None]:
    """The faster tokenizer, or why there is none (None: it is not installed).

    Args:
        backend: a ``tokenizers.Tokenizer``.
        sample: texts of the data, to compare.
    """
    try:
        library = import_module("fastokens._native")
    except ImportError:
        return None, None
    try:
        encode = _wrapped(library.Tokenizer.from_json_str(backend.to_str()))
        different = _difference(encode, standard(backend), [*sample, *difficult(backend)])
    except (ValueError, RuntimeError, NotImplementedError, OverflowError) as error:
        reason = " ".join(str(error).split())
        return None, f"the standard tokenizer is used: the faster one cannot read this vocabulary ({reason})"
    if different is not None:
        return None, f"the standard tokenizer is used: the faster one gives other ids for {different[:40]!r}"
    return encode, None


def _wrapped(tokenizer: Any) -> Encode:
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: Sequence[str], split_special: bool) -> Ids:
        ids, bounds = tokenizer.encode_batch_flat(list(texts), split_special_tokens=split_special)
        return Ids(np.frombuffer(ids, "<u4").astype(np.int32), np.frombuffer(bounds, "<u8").astype(np.int64))

    return encode


def _difference(one: Encode, other: Encode, texts: Sequence[str]) -> str | None:
    """The first text for which two tokenizers disagree."""
    for split_special in (False, True):
        ours, theirs = one(texts, split_special), other(texts, split_special)
        for i, text in enumerate(texts):
            if not np.array_equal(ours.of(i), theirs.of(i)):
                return text
    return None


def difficult(backend: Any) -> list[str]:
    """Strings with which tokenizers disagree when they do: blanks, marks, and the added tokens of the vocabulary."""
    added = [token.content for token in backend.get_added_tokens_decoder().values()]
    texts = list(_DIFFICULT)
    for token in [*added[:_TOKENS], *added[-_TOKENS:]]:
        texts += [token, f"a {token} b", f" {token}{token}\n", token[:-1], f"{token[1:]}{token}'s"]
    return [*texts, " ".join(_DIFFICULT), "".join(reversed(_DIFFICULT))]
