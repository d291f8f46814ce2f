"""Multiple-choice questions."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"do_bench_eval": True}, "Set eval_steps or evals_per_epoch"),
        ({"bench_dataset": "mmlu-zs"}, "has no effect: do_bench_eval is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"do_bench_eval": True, "eval_steps": 5, "bench_dataset": "mmlu-zs", "val_set_size": 0.1},
        {"do_bench_eval": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"do_bench_eval": True, "eval_steps": 5, "val_set_size": 0.1}, {"do_bench_eval"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
