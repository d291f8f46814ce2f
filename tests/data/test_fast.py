from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newt.data import fast
from newt.data.fast import difficult, load, standard
from newt.data.spelling import Ids
from newt.data.texts import TextEncoder

NAMES = ("qwen3", "llama3_1", "gemma3", "llama2")
READABLE = ("qwen3", "llama3_1", "gemma3")
"""Vocabularies that the library reads."""
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def backend(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder).backend_tokenizer


@cache
def quick(folder: Path) -> Any:
    encode, note = load(backend(folder), ["Hello there."])
    assert note is None
    return encode


def text_of(folder: Path) -> st.SearchStrategy[str]:
    added = [token.content for token in backend(folder).get_added_tokens_decoder().values()][:200]
    pieces = [*added, *(token[1:] for token in added[:40]), " ", "\n", "'s", "é", "e\u0301", "\u212b", " the", "12345"]
    return st.lists(st.sampled_from(pieces) | st.text(max_size=6), max_size=8).map("".join)


@pytest.mark.parametrize("name", READABLE)
def test_ids_are_those_of_the_standard_tokenizer(real_tokenizer: Callable[[str], Path], name: str) -> None:
    pytest.importorskip("fastokens")
    folder = real_tokenizer(name)
    ours, theirs = quick(folder), standard(backend(folder))

    @QUICK
    @given(st.lists(text_of(folder), min_size=1, max_size=4), st.booleans())
    def check(texts: list[str], split: bool) -> None:
        found, expected = ours(texts, split), theirs(texts, split)
        assert found.bounds.tolist() == expected.bounds.tolist()
        assert found.ids.tolist() == expected.ids.tolist()
        assert found.ids.dtype == np.int32

    check()


@pytest.mark.parametrize("name", NAMES)
def test_the_standard_tokenizer(real_tokenizer: Callable[[str], Path], name: str) -> None:
    tokenizer = backend(real_tokenizer(name))
    texts = ["a b", "", "x\ny 🦑"]
    found = standard(tokenizer)(texts, False)
    assert [found.of(i).tolist() for i in range(3)] == [
        tokenizer.encode(t, add_special_tokens=False).ids for t in texts
    ]
    assert tokenizer.encode_special_tokens is False


def test_a_vocabulary_that_the_library_cannot_read_is_told(real_tokenizer: Callable[[str], Path]) -> None:
    pytest.importorskip("fastokens")
    encode, note = load(backend(real_tokenizer("llama2")), [])
    if encode is None:
        assert note is not None
        assert note.startswith("the standard tokenizer is used: the faster one ")
        assert "\n" not in note


def test_without_the_library_nothing_is_said(tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastokens._native", None)
    assert load(backend(tokenizer_dir), ["a"]) == (None, None)


class Other:
    """A library that is wrong about one string."""

    def __init__(self, tokenizer: Any, wrong: str) -> None:
        self._encode, self._wrong = standard(tokenizer), wrong

    def from_json_str(self, _: str) -> Other:
        return self

    def no_truncation(self) -> None: ...

    def no_padding(self) -> None: ...

    def encode_batch_flat(self, texts: Sequence[str], split_special_tokens: bool) -> tuple[bytes, bytes]:
        found = self._encode(texts, split_special_tokens)
        ids = [[7] if text == self._wrong else found.of(i).tolist() for i, text in enumerate(texts)]
        bounds = np.cumsum([0, *map(len, ids)]).astype("<u8")
        return np.array([one for each in ids for one in each], "<u4").tobytes(), bounds.tobytes()


@pytest.mark.parametrize("wrong", ["row of the data", difficult(SimpleNamespace(get_added_tokens_decoder=dict))[9]])
def test_one_difference_keeps_the_standard_tokenizer(
    tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    other = Other(tokenizer.backend_tokenizer, wrong)
    monkeypatch.setattr(fast, "import_module", lambda _: SimpleNamespace(Tokenizer=other))
    encoder = TextEncoder(tokenizer)
    encoder.speed_up(["row of the data"])
    assert not encoder.is_fast
    assert encoder.notes == [f"the standard tokenizer is used: the faster one gives other ids for {wrong!r}"]
    agreed = TextEncoder(tokenizer)
    other._wrong = "never seen"
    agreed.speed_up(["row of the data"])
    assert agreed.is_fast
    assert not agreed.notes
    made: Ids = agreed.encode(["one two"])
    assert made.ids.tolist() == tokenizer("one two", add_special_tokens=False)["input_ids"]
