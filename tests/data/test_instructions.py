"""Prompt styles, and texts from columns."""

import pytest

from newt.data.instructions import (
    CHAT,
    STYLES,
    Layout,
    Single,
    Style,
    from_columns,
    objects_of,
    row_text,
    styled,
    text_or_nothing,
)
from newt.extend import Segment
from newt.support.errors import DataError


def test_a_prompt_knows_which_of_its_characters_the_row_says():
    prompt = CHAT.prompt(Single("a{b}", "r", "c", "s"), train=False)
    assert prompt.text == "SYSTEM: s\nUSER: a{b}\nc\nASSISTANT:"
    assert [prompt.text[begin:end] for begin, end in prompt.fields or ()] == ["s", "a{b}", "c"]


def test_a_row_s_own_system_text_wins():
    style = Style("<{system}>", "{instruction}+{input}", "{instruction}")
    read = from_columns("q", "a", context="c", system="s")
    layout = Layout(read, ("q", "a"), style, system="with", system_without_input="without")
    prompts = [
        layout.row({"q": "Q", "a": "A", **more}, train_on_inputs=False).segments[0].text
        for more in ({}, {"c": "C"}, {"c": "C", "s": "own"}, {"s": ""})
    ]
    assert prompts == ["<without>Q", "<with>Q+C", "<own>Q+C", "<without>Q"]


def test_prompt_and_response_in_one_row():
    prompt, response = Segment("p", False, "prompt"), Segment("r", True, "response")
    text = row_text(prompt, response)
    assert (text.segments, text.bos, text.eos, text.joined, list(text.notes)) == (
        (prompt, response),
        True,
        True,
        False,
        [],
    )
    alone = row_text(Segment("", False), response)
    assert (alone.segments, alone.bos, len(alone.notes)) == ((response,), False, 1)


def test_names_with_styles():
    assert styled(["x"]) == ("x:instruct", "x:chat", "x:chatml", "x:phi")
    assert len(STYLES) == 4


def test_columns():
    assert text_or_nothing({}, "x") == ""
    assert objects_of({"x": '[{"a": 1}]'}, "x") == [{"a": 1}]
    with pytest.raises(DataError, match="x is missing; the row has: nothing"):
        objects_of({}, "x")
