"""Rules of DPO and IPO."""

import pytest
from tests.helpers import make_run, messages

PAIRS = [{"path": "a/b", "type": "chatml.intel"}]
DPO = {"rl": "dpo", "datasets": PAIRS}


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    found = messages(**{**DPO, **keys})
    return [message for message in found if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"rl": "ipo"}, "rl: ipo is an older spelling. Set rl: dpo and dpo_loss_type: [ipo]."),
        ({"rl": "ipo", "dpo_loss_type": "hinge"}, "dpo_loss_type: cannot be used with rl: ipo."),
        ({"dpo_loss_type": ["sigmod"]}, "dpo_loss_type: unknown loss 'sigmod'. Did you mean sigmoid?"),
        (
            {"dpo_loss_type": ["sigmoid", "sft"], "dpo_loss_weights": [1.0]},
            "dpo_loss_weights: needs one weight for each",
        ),
        ({"dpo_loss_weights": [1.0, 2.0]}, "needs one weight for each of dpo_loss_type: 1, got 2."),
        (
            {"dpo_loss_type": ["ipo"], "dpo_use_liger_kernel": True},
            "dpo_use_liger_kernel: cannot be used with the ipo loss",
        ),
        ({"rl": "ipo", "dpo_use_liger_kernel": True}, "dpo_use_liger_kernel: cannot be used with the ipo loss"),
        ({"rl": "ipo", "dpo_label_smoothing": 0.1}, "dpo_label_smoothing: cannot be used with the ipo loss."),
        ({"rl": "orpo", "dpo_loss_type": ["sigmoid"]}, "dpo_loss_type: has no effect: rl is not dpo."),
        ({"rl": None, "datasets": None, "dpo_loss_type": ["sigmoid"]}, "dpo_loss_type: has no effect: rl is not dpo."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"dpo_loss_type": ["sigmoid", "sft"], "dpo_loss_weights": [1.0, 0.5]},
        {"dpo_label_smoothing": 0.1, "dpo_use_liger_kernel": True, "rpo_alpha": 1.0},
        {"rl": "orpo", "dpo_use_weighting": False, "rpo_alpha": 0},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_rl_selects_the_method():
    run = make_run(**DPO)
    assert run.method.name == "dpo"
    assert "rl: dpo is known, but Newt does not support it yet." in [str(problem) for problem in run.problems()]
    assert make_run().method.name == "sft"


def test_ipo_is_dpo_with_another_loss():
    assert make_run(**{**DPO, "rl": "ipo"}).method.name == "dpo"
