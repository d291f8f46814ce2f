from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from newt.data.spelling import Ids, Spelling, joined, labels_of

QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TOKENS = {0: b"a", 1: b"bc", 2: "é".encode(), 3: b"\xc3", 4: b"\xa9", 5: b""}


@cache
def loaded(folder: Path) -> tuple[Any, Spelling | None]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, Spelling.of(tokenizer)


def test_only_texts_that_their_tokens_spell_match() -> None:
    spelling = Spelling(TOKENS)
    ids = joined([np.array(row, np.int32) for row in ([0, 1], [0, 2], [3, 4], [1], [], [0, 0])])
    assert spelling.lengths(ids.of(1)).tolist() == [1, 2]
    texts = ["abc", "aé", "é", "ab", "", "ba"]
    assert spelling.matching(ids, [t.encode() for t in texts]).tolist() == [True, True, True, False, True, False]
    unknown = joined([np.array([99], np.int32)])
    assert spelling.matching(unknown, [b"a"]).tolist() == [False]


def test_labels_by_hand() -> None:
    # a|bc|é|a and, in the second text, é in two tokens: half a character is not trained without its other half
    ids = joined([np.array([0, 1, 2, 0], np.int32), np.array([3, 4, 0], np.int32)])
    texts = ["abcéa", "éa"]
    labels = labels_of(ids, Spelling(TOKENS), texts, [[(1, 4)], [(0, 1)]], -100)
    assert labels.tolist() == [-100, 1, 2, -100, 3, 4, -100]
    assert labels.dtype == np.int32
    straddling = labels_of(ids, Spelling(TOKENS), texts, [[(2, 4)], []], -100)
    assert straddling.tolist() == [-100, -100, 2, -100, -100, -100, -100]
    nothing = labels_of(joined([]), Spelling(TOKENS), [], [], -100)
    assert nothing.tolist() == []


PIECES = st.sampled_from([" ", "\n", "  ", "the", " cat", "é", "e\u0301", "🦑", "数", "▁", "<0x0A>", "\t", "\u212b"])


@pytest.mark.parametrize("name", ["qwen3", "llama3_1", "gemma3"])
def test_places_are_those_of_the_tokenizer(real_tokenizer: Callable[[str], Path], name: str) -> None:
    tokenizer, spelling = loaded(real_tokenizer(name))
    assert spelling is not None

    @QUICK
    @given(st.lists(PIECES | st.text(max_size=4), max_size=10).map("".join), st.data())
    def check(text: str, data: st.DataObject) -> None:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = Ids(np.array(encoded["input_ids"], np.int32), np.array([0, len(encoded["input_ids"])]))
        if not spelling.matching(ids, [text.encode()])[0]:
            assert "▁" in text or not unicodedata.is_normalized("NFC", text)
            return
        begin = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(begin, len(text)))
        found = labels_of(ids, spelling, [text], [[(begin, end)]], -100)
        before = 0
        for id_, label, (b, e) in zip(ids.ids.tolist(), found.tolist(), encoded["offset_mapping"], strict=True):
            b = min(b, before) if b > before else b  # blanks that no token claims belong to the token after them
            before = max(before, e)
            assert (label == id_) == (begin <= b and e <= end), (text, begin, end)

    check()


def test_a_vocabulary_that_does_not_spell_its_text(real_tokenizer: Callable[[str], Path]) -> None:
    assert loaded(real_tokenizer("llama2"))[1] is None
