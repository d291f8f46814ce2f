"""Evaluation of generated answers."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"do_causal_lm_eval": True, "val_set_size": 0.1, "sample_packing": True},
            "needs rows that are not packed. Set eval_sample_packing: false.",
        ),
        ({"do_causal_lm_eval": True}, "there is nothing to evaluate"),
        ({"eval_causal_lm_metrics": ["chrf"]}, "has no effect: do_causal_lm_eval is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"do_causal_lm_eval": True, "val_set_size": 0.1, "sample_packing": True, "eval_sample_packing": False},
        {"do_causal_lm_eval": True, "val_set_size": 0.1, "eval_causal_lm_metrics": ["chrf", "perplexity"]},
        {"do_causal_lm_eval": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"do_causal_lm_eval": True, "val_set_size": 0.1}, {"do_causal_lm_eval"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
