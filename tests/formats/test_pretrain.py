"""Rows of plain text for pretraining."""

import pytest
from tests.helpers import make_run

from newt.extend import Segment, Text
from newt.support.errors import DataError


def read(row, **keys):
    run = make_run(datasets=None, pretraining_dataset={"path": "a/b", **keys}, streaming=True, max_steps=1)
    return run.formats[0](row)


def test_a_text_is_trained_in_windows():
    assert read({"text": "tide"}) == Text((Segment("tide", True, "text"),), split=True, overlapping=True)


def test_the_column_may_have_another_name():
    assert read({"body": "tide", "text": "x"}, text_column="body").segments[0].text == "tide"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"body": "x"}, "text is missing; the row has: body. Set text_column."),
        ({}, "text is missing; the row has: nothing"),
        ({"text": 3}, "text must be a text, it is 3"),
        ({"text": ["x"] * 100}, "text must be a text, it is ['x', 'x'"),
    ],
)
def test_other_rows_are_refused(row, text):
    with pytest.raises(DataError) as told:
        read(row)
    assert str(told.value).startswith(text)
    assert len(str(told.value)) < 100
