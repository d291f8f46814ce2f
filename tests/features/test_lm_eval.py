"""The evaluation harness."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"lm_eval_tasks": ["gsm8k"]}, "needs LMEvalPlugin"),
        ({"plugins": ["LMEvalPlugin"]}, "lm_eval_tasks: is missing"),
        ({"plugins": ["LMEvalPlugin"], "lm_eval_tasks": ["gsm8k:five"]}, "'gsm8k:five' is not a task"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {
            "plugins": ["LMEvalPlugin"],
            "lm_eval_tasks": ["gsm8k:5", "arc_easy"],
            "lm_eval_batch_size": 4,
            "lm_eval_post_train": False,
        },
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"plugins": ["LMEvalPlugin"], "lm_eval_tasks": ["a"], "lm_eval_post_train": True},
            {"plugins", "lm_eval_tasks"},
        ),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
