"""Learning rates of some modules."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"embedding_lr": 1e-4, "embedding_lr_scale": 0.5}, "embedding_lr_scale: cannot be used with embedding_lr"),
        (
            {
                "lr_groups": [{"name": "a", "modules": ["q_proj"], "lr": 1e-4}],
                "loraplus_lr_ratio": 16,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "lr_groups: cannot be used with loraplus_lr_ratio",
        ),
        (
            {
                "embedding_lr": 1e-4,
                "loraplus_lr_ratio": 16,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "embedding_lr: cannot be used with loraplus_lr_ratio",
        ),
        (
            {"lr_groups": [{"name": "a", "modules": ["q"], "lr": 1}, {"name": "a", "modules": ["k"], "lr": 1}]},
            "two groups are called a",
        ),
        (
            {
                "optimizer": "polora",
                "embedding_lr": 0.1,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "embedding_lr: has no effect: polora sets its own rates",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"lr_groups": [{"name": "a", "modules": ["q_proj"], "lr": "1e-4"}]},
        {"embedding_lr": 1e-4},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(("keys", "by"), [({"embedding_lr_scale": 0.5}, "learning rate groups"), ({}, None)])
def test_the_rule_stands_in_the_plan(keys, by):
    assert make_run(**keys).train_plan().groups.by == by
