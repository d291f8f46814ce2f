"""Restarts of the learning rate."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"jagged_restart_warmup_steps": 5}, "has no effect: jagged_restart_steps is not set"),
        ({"jagged_restart_steps": 10}, "is shorter than the warmup (10) and the annealing (1)"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"jagged_restart_steps": 100, "jagged_restart_warmup_steps": 5, "jagged_restart_anneal_steps": 2},
        {"jagged_restart_steps": 100, "cosine_min_lr_ratio": 0.1, "lr_scheduler": "linear"},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"jagged_restart_steps": 100}, {"jagged_restart_steps"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
