"""Checkpoints on demand."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    "keys",
    [
        {"dynamic_checkpoint": {"enabled": False, "check_interval": 5}},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"dynamic_checkpoint": {"enabled": True}}, {"dynamic_checkpoint.enabled"}),
        ({"dynamic_checkpoint": {"enabled": False}}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
