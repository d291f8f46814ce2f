"""Entropy-adaptive weights."""

import pytest
from tests.helpers import complaints, make_run, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"use_eaft": True, "chunked_cross_entropy": True},
            "use_eaft: needs the logits, which chunked_cross_entropy never makes",
        ),
        ({"eaft_alpha": 0.5}, "has no effect: use_eaft is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"use_eaft": True, "eaft_alpha": 0.5, "eaft_k": 10},
        {"use_eaft": False, "eaft_alpha": 1.0},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_it_is_the_next_token_loss_of_the_plan():
    assert make_run(use_eaft=True).train_plan().cross_entropy.by == "eaft"
    assert unsupported(use_eaft=True) == set()
