"""Rules of ORPO."""

import pytest
from tests.helpers import make_run, messages

ORPO = {"rl": "orpo", "datasets": [{"path": "a/b", "type": "chat_template.argilla"}]}


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    found = messages(**{**ORPO, **keys})
    return [message for message in found if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"orpo_alpha": 0.1, "rl_beta": 0.2}, "orpo_alpha: differs from rl_beta (0.2)."),
        ({"orpo_alpha": 0.1, "trl": {"beta": 0.2}}, "orpo_alpha: differs from rl_beta (0.2)."),
        ({"rl_adapter_ref_model": True}, "rl_adapter_ref_model: has no effect: rl: orpo has no reference model."),
        ({"rl": "dpo", "orpo_alpha": 0.1}, "orpo_alpha: has no effect: rl is not orpo."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"orpo_alpha": 0.1, "rl_beta": 0.1},
        {"orpo_alpha": 0.1, "remove_unused_columns": False},
        {"rl": "dpo", "orpo_alpha": None},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_rl_selects_the_method():
    run = make_run(**ORPO)
    assert run.method.name == "orpo"
    assert "rl: orpo is known, but Newt does not support it yet." in [str(problem) for problem in run.problems()]
    assert make_run().method.name == "sft"
