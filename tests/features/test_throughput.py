"""Tokens a second."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"include_tkps": False}, "include_tkps: is always on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"include_tokens_per_second": True, "include_tkps": True},
        {"include_tokens_per_second": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"include_tokens_per_second": True}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
