"""The chunked loss."""

import pytest
from tests.helpers import complaints, make_run, unsupported


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


def test_it_is_the_next_token_loss_of_the_plan():
    plan = make_run(chunked_cross_entropy=True, chunked_cross_entropy_num_chunks=3).train_plan()
    assert plan.cross_entropy.by == "chunked loss"
    assert not make_run().train_plan().cross_entropy
    assert unsupported(chunked_cross_entropy=True) == set()
