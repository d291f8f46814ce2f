"""Grokfast."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"grokfast_alpha": 0.9}, "needs GrokfastPlugin"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"plugins": ["GrokfastPlugin"], "grokfast_alpha": 0.98, "grokfast_lamb": 2.0},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["GrokfastPlugin"], "grokfast_lamb": 2.0}, {"plugins", "grokfast_lamb"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
