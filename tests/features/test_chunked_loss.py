"""The chunked loss."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"chunked_cross_entropy": True, "plugins": ["LigerPlugin"], "liger_cross_entropy": True},
            "chunked_cross_entropy: cannot be used with liger_cross_entropy.",
        ),
        (
            {"chunked_cross_entropy": True, "plugins": ["CutCrossEntropyPlugin"], "cut_cross_entropy": True},
            "chunked_cross_entropy: cannot be used with cut_cross_entropy.",
        ),
        ({"chunked_cross_entropy_num_chunks": 4}, "has no effect: chunked_cross_entropy is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"chunked_cross_entropy": False},
        {"chunked_cross_entropy": True, "chunked_cross_entropy_num_chunks": 4},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"chunked_cross_entropy": True}, {"chunked_cross_entropy"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
