"""Rules of KTO."""

import pytest
from tests.helpers import make_run, messages

KTO = {"rl": "kto", "datasets": [{"path": "a/b", "type": "llama3.ultra"}]}
PAIRS = [{"path": "a/b", "type": "chatml.intel"}]


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    found = messages(**{**KTO, **keys})
    return [message for message in found if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"kto_desirable_weight": 0, "kto_undesirable_weight": 0}, "kto_desirable_weight: both weights are 0"),
        (
            {"rl": "dpo", "datasets": PAIRS, "kto_desirable_weight": 0.5},
            "kto_desirable_weight: has no effect: rl is not kto.",
        ),
        ({"sample_packing": True}, "sample_packing: cannot be used with rl"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"kto_desirable_weight": 0.2, "remove_unused_columns": False},
        {"kto_undesirable_weight": 0},
        {"rl": "dpo", "datasets": PAIRS, "kto_desirable_weight": 1.0},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_rl_selects_the_method():
    run = make_run(**KTO)
    assert run.method.name == "kto"
    assert "rl: kto is known, but Newt does not support it yet." in [str(problem) for problem in run.problems()]
    assert make_run().method.name == "sft"
