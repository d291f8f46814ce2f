"""Rules of SimPO."""

import pytest
from tests.helpers import make_run, messages

SIMPO = {"rl": "simpo", "datasets": [{"path": "a/b", "type": "chatml.intel"}]}


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    found = messages(**{**SIMPO, **keys})
    return [message for message in found if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"warmup_ratio": 0.1}, "warmup_ratio: cannot be used with rl: simpo."),
        ({"rl_adapter_ref_model": True}, "rl_adapter_ref_model: has no effect: rl: simpo has no reference model."),
        ({"rl": "dpo", "simpo_gamma": 0.5}, "simpo_gamma: has no effect: rl is not simpo."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"cpo_alpha": 1.0, "simpo_gamma": 0.5, "warmup_steps": 5},
        {"rl": "dpo", "warmup_ratio": 0.1},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_rl_selects_the_method():
    run = make_run(**SIMPO)
    assert run.method.name == "simpo"
    assert "rl: simpo is known, but Newt does not support it yet." in [str(problem) for problem in run.problems()]
    assert make_run().method.name == "sft"
