"""Plain texts: all of it is trained."""

import pytest
from tests.formats.seen import make_format, seen

from newt.data.encode import format_row
from newt.support.errors import DataError


def test_the_whole_text_is_trained_with_its_end_token():
    assert seen("completion", {"text": "abc"}) == "⟦<s>abc</s>⟧"
    assert seen("completion.load", {"body": "abc"}, {"field": "body"}) == "⟦<s>abc</s>⟧"


def test_long_texts_are_cut_into_rows():
    assert seen("completion", {"text": "abcdefgh"}, sequence_len=4) == "⟦<s>abc⟧\n⟦defg⟧\n⟦h</s>⟧"


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"body": "x"}, "text is missing; the row has: body"),
        ({}, "text is missing; the row has: nothing"),
        ({"text": 1}, "text must be a text, it is 1"),
    ],
)
def test_rows_that_do_not_fit(row, error):
    with pytest.raises(DataError, match=error):
        format_row(make_format("completion"), row)
