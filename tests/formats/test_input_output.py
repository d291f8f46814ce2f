"""Segments: nothing is added, and each says itself whether it is trained."""

import pytest
from tests.formats.seen import make_format, notes_of, seen

from newt.data.encode import format_row
from newt.support.errors import DataError

ROW = {
    "segments": [
        {"label": True, "text": "<s>Hello\n"},
        {"label": False, "text": "hi "},
        {"label": True, "text": "there</s>"},
    ]
}


def test_segments_are_tokenized_as_they_are():
    assert seen("input_output", ROW) == "⟦<s>Hello\n⟧hi ⟦there</s>⟧"
    assert seen("input_output", {"segments": [{"label": False, "text": "a"}, {"label": True, "text": "b"}]}) == "a⟦b⟧"
    assert seen("input_output", {"segments": [{"label": True, "text": ""}]}) == ""


def test_train_on_inputs_trains_everything():
    assert seen("input_output", ROW, train_on_inputs=True) == "⟦<s>Hello\nhi there</s>⟧"


def test_special_tokens_of_the_segments_are_meant():
    assert seen("input_output", ROW, split_special_tokens=True) == "⟦<s>Hello\n⟧hi ⟦there</s>⟧"
    assert notes_of("input_output", ROW) == []


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"text": "x"}, "segments is missing; the row has: text"),
        ({"segments": "x"}, "segments is a string but not JSON"),
        ({"segments": ["x"]}, r"segments\[0\] must be an object, it is a text"),
        ({"segments": [{"text": "x"}]}, r"segments\[0\]: label must be true or false, it is None"),
        ({"segments": [{"label": "true", "text": "x"}]}, r"segments\[0\]: label must be true or false, it is 'true'"),
        ({"segments": [{"label": True, "text": "x"}, {"label": True}]}, r"segments\[1\]: text is missing"),
        ({"segments": [{"label": True, "text": 1}]}, r"segments\[0\]: text must be a text, it is 1"),
    ],
)
def test_rows_that_do_not_fit(row, error):
    with pytest.raises(DataError, match=error):
        format_row(make_format("input_output"), row)
