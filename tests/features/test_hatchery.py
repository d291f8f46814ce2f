"""The remote service."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"hatchery": {"project": "x"}}, "needs HatcheryPlugin"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"plugins": ["HatcheryPlugin"], "hatchery": {"project": "x"}},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["HatcheryPlugin"], "hatchery": {"project": "x"}}, {"plugins", "hatchery"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
