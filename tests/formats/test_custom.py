"""Layouts that the config describes: the exact text, what of it is trained, and what is wrong with a pattern."""

import pytest
from tests.formats.seen import make_format, notes_of, seen
from tests.helpers import complaints

from newt.data.encode import format_row
from newt.support.errors import DataError

INST = {
    "system_prompt": "",
    "field_system": "system",
    "field_instruction": "instruction",
    "field_input": "input",
    "field_output": "output",
    "format": "[INST] {instruction} {input} [/INST]",
    "no_input_format": "[INST] {instruction} [/INST]",
}
DIVER = {
    "system_prompt": "You dive.",
    "system_format": "<<{system}>>\n",
    "field_system": "sys",
    "field_instruction": "q",
    "field_input": "ctx",
    "field_output": "a",
    "format": "[Q]{instruction}[C]{input}[A]",
    "no_input_format": "[Q]{instruction}[A]",
}


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        (INST, {"instruction": "Add", "input": "1 2", "output": "3"}, "<s>[INST] Add 1 2 [/INST]⟦3</s>⟧"),
        (INST, {"instruction": "Add", "input": "", "output": "3"}, "<s>[INST] Add [/INST]⟦3</s>⟧"),
        (INST, {"instruction": "A", "output": "3", "system": "S"}, "<s>S[INST] A [/INST]⟦3</s>⟧"),
        ({}, {"instruction": "Add", "input": "1", "output": "3"}, "<s>Add 1 ⟦3</s>⟧"),
        ({}, {"instruction": "Add", "output": "3"}, "<s>Add ⟦3</s>⟧"),
        (DIVER, {"q": "How?", "ctx": "reef", "a": "12 m"}, "<s><<You dive.>>\n[Q]How?[C]reef[A]⟦12 m</s>⟧"),
        (DIVER, {"q": "{How}?", "a": "12", "sys": "Swim."}, "<s><<Swim.>>\n[Q]{How}?[A]⟦12</s>⟧"),
        ({"no_input_format": "{{{instruction}}}: "}, {"instruction": "q", "output": "a"}, "<s>{q}: ⟦a</s>⟧"),
    ],
)
def test_prompt_and_labels(kind, row, expected):
    assert seen(kind, row) == expected


def test_train_on_inputs():
    assert seen({}, {"instruction": "q", "output": "a"}, train_on_inputs=True) == "⟦<s>q a</s>⟧"


def test_an_empty_prompt_is_nothing_and_noted():
    empty = {"format": "", "no_input_format": ""}
    assert seen(empty, {"output": "all of it"}) == "⟦all of it</s>⟧"
    assert notes_of(empty, {"output": "a"}) == ["empty prompt: the row is the response alone"]
    assert make_format(empty).columns() == ("output",)


def test_special_tokens_of_a_pattern_are_meant():
    kind = {"no_input_format": "<|im_start|>{instruction}"}
    assert seen(kind, {"instruction": "q", "output": "a"}, split_special_tokens=True) == "<s><|im_start|>q⟦a</s>⟧"


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"q": "x"}, "a is missing; the row has: q"),
        ({"a": "x"}, "q is missing; the row has: a"),
        ({"q": "x", "a": 3}, "a must be a text, it is 3"),
        ({"q": "x", "a": "y", "ctx": ["z"]}, "ctx must be a text"),
    ],
)
def test_rows_that_do_not_fit(row, error):
    with pytest.raises(DataError, match=error):
        format_row(make_format(DIVER), row)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (
            {"format": "{instruction} {output}", "no_input_format": "x"},
            "datasets.0.type.format: {output} stands for nothing here, only {instruction} and {input}.",
        ),
        ({"no_input_format": "{input}"}, "datasets.0.type.no_input_format: {input} stands for nothing here, only {ins"),
        ({"system_format": "{system!r}"}, "datasets.0.type.system_format: {system} stands for nothing here"),
        ({"no_input_format": "{}"}, "datasets.0.type.no_input_format: {} stands for nothing here"),
        ({"no_input_format": "a { b"}, "datasets.0.type.no_input_format: is not a pattern:"),
        ({"format": "{instruction}"}, "datasets.0.type.no_input_format: is not set: rows without input are written as"),
        ({"field": "text"}, "datasets.0.type.field: has no effect."),
    ],
)
def test_patterns_that_cannot_be_filled(kind, text):
    found = complaints(datasets=[{"path": "a/b", "type": kind}])
    assert any(text in message for message in found), found


def test_sound_patterns():
    assert complaints(datasets=[{"path": "a/b", "type": INST}]) == []
