"""Rules of process reward models."""

import pytest
from tests.helpers import make_run, messages

PRM = {"process_reward_model": True, "datasets": [{"path": "a/b", "type": "stepwise_supervised"}]}


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    found = messages(**{**PRM, **keys})
    return [message for message in found if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"num_labels": 1}, "num_labels: must be at least 2 for a process reward model."),
        ({"sample_packing": True}, "sample_packing: cannot be used with process_reward_model."),
        ({"eval_sample_packing": True}, "eval_sample_packing: cannot be used with process_reward_model."),
        ({"reward_model": True}, "process_reward_model: cannot be used with reward_model."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize("keys", [{}, {"num_labels": 2}, {"sample_packing": False, "reward_model": False}])
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_the_switch_selects_the_method():
    assert make_run(**PRM).method.name == "process reward"
    assert "process_reward_model: is known, but Newt does not support it yet." in messages(**PRM)
