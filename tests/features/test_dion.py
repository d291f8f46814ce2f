"""Dion."""

import pytest
from tests.helpers import complaints


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"dion_lr": 0.01}, "has no effect: optimizer is not dion"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "dion", "dion_lr": 0.01, "dion_rank_fraction": 0.5},
        {"dion_rank_multiple_of": 1},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []
