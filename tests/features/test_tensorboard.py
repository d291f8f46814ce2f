"""TensorBoard."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    "keys",
    [
        {"use_tensorboard": False},
        {"use_tensorboard": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"use_tensorboard": True}, {"use_tensorboard"}),
        ({"use_tensorboard": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
