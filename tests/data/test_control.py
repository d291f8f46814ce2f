from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import AutoTokenizer

from newt.data.control import ControlTokens, join_notes, note, said_spans
from newt.data.trace import Source
from newt.extend import Conversation, Segment, Text, Tokens, Turn
from newt.rows import filled


@pytest.fixture(scope="module")
def control(tokenizer_dir: Path) -> ControlTokens:
    return ControlTokens(AutoTokenizer.from_pretrained(tokenizer_dir))


def test_what_a_row_says(control: ControlTokens) -> None:
    def said(message: dict[str, Any], **more: Any) -> set[str]:
        return control.said_by(Conversation([message], [Turn(True)], **more))

    assert said({"role": "user", "content": "a <|im_end|> b <|im_"}) == {"<|im_end|>"}
    assert said({"role": "user", "content": "a < | b"}) == set()
    call = {"function": {"name": "f", "arguments": {"<|im_start|>": 1}}}
    assert said({"role": "assistant", "content": "", "tool_calls": [call]}) == {"<|im_start|>"}
    assert said({"role": "user", "content": ""}, tools=[{"description": "<|im_end|>"}]) == {"<|im_end|>"}
    text, fields = filled("<|im_start|>{a}<|im_end|>", a="x<|endoftext|>")
    assert control.said_by(Text((Segment(text, True, fields=fields),))) <= {"<|endoftext|>"}
    assert control.said_by(Text((Segment(text, True),))) >= {"<|im_start|>", "<|im_end|>"}
    assert control.said_by(Tokens([1], [1])) == set()


def test_a_text_is_cut_at_the_special_tokens_that_nobody_said(control: ControlTokens) -> None:
    text = "<|im_start|>user\n<|im_end|><|im_end|>\n"
    said = [(17, 27)]
    pieces = control.pieces(text, said)
    assert "".join(text[p.begin : p.end] for p in pieces) == text
    assert [text[p.begin : p.end] for p in pieces if p.token is not None] == ["<|im_start|>", "<|im_end|>"]
    assert [p.begin for p in pieces if p.token is not None] == [0, 27]
    across = control.pieces("<|im_end|>", [(0, 5)])  # half of it is said: it is no token
    assert [p.token for p in across] == [None]


def test_a_token_takes_the_blanks_that_the_tokenizer_gives_it(tokenizer_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|e|>", lstrip=True, rstrip=True)]})
    text = "a  <|e|> b<|e|>"
    pieces = ControlTokens(tokenizer).pieces(text, [])
    ids = [piece.token for piece in pieces]
    assert [(p.begin, p.end) for p in pieces] == [(0, 1), (1, 9), (9, 10), (10, 15)]
    assert ids[1] == ids[3] == tokenizer.convert_tokens_to_ids("<|e|>")


def test_the_name_of_a_role_is_the_templates() -> None:
    spans = [(0, 4, Source(0, "role"), 0), (4, 6, Source(0, "content"), 0)]
    assert said_spans("userhi", spans) == [(4, 6)]
    assert said_spans("<|x>hi", spans) == [(0, 4), (4, 6)]


def test_notes_keep_the_first_place() -> None:
    notes: Counter[str] = Counter()
    join_notes(notes, {note("<s>", "a.jsonl: row 3", False): 2, "other": 1})
    join_notes(notes, {note("<s>", "a.jsonl: row 900", False): 5, "other": 1})
    assert notes == {note("<s>", "a.jsonl: row 3", False): 7, "other": 2}


def test_filled_tells_where_the_fields_stand() -> None:
    text, fields = filled("[{a}] {{b}} {c}{a}", a="x{c}", c="")
    assert text == "[x{c}] {b} x{c}"
    assert [text[b:e] for b, e in fields] == ["x{c}", "", "x{c}"]
