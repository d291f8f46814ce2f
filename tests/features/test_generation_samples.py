"""Answers generated during training."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"eval_table_size": 5}, "Use generate_samples: true"),
        ({"eval_table_size": 5, "sample_packing": True}, "needs rows that are not packed"),
        ({"generation_top_p": 0.9}, "has no effect: generate_samples is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"eval_table_size": 0, "eval_max_new_tokens": 128},
        {"generate_samples": True, "generation_top_p": 0.9, "generation_do_sample": False},
        {"generate_samples": False, "generation_temperature": 0.7},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"generate_samples": True}, {"generate_samples"}),
        ({"eval_table_size": 0}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
