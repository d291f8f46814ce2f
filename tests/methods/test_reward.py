"""Rules of reward models."""

import pytest
from tests.helpers import make_run, messages

PAIRS = [{"path": "a/b", "type": "bradley_terry.chat_template"}]
RM = {"reward_model": True, "datasets": PAIRS}


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    return [message for message in messages(**keys) if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({**RM, "num_labels": 3}, "num_labels: must be 1 for a reward model."),
        ({"num_labels": 1}, "num_labels: has no effect: neither reward_model nor process_reward_model is on."),
        ({**RM, "sample_packing": True}, "sample_packing: cannot be used with reward_model."),
        ({"center_rewards_coefficient": 0.01}, "center_rewards_coefficient: has no effect: reward_model is not on."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [{**RM, "num_labels": 1, "center_rewards_coefficient": 0.01}, RM, {"reward_model": False}],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_the_switch_selects_the_method():
    assert make_run(**RM).method.name == "reward"
    assert "reward_model: is known, but Newt does not support it yet." in messages(**RM)
