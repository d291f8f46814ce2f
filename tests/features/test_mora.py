"""MoRA."""

import pytest
from tests.helpers import complaints, messages


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"mora_type": 1}, "needs MoraPlugin"),
        ({"plugins": ["MoraPlugin"], "mora_type": 1}, "has no effect: adapter is not mora"),
        (
            {
                "plugins": ["MoraPlugin"],
                "use_mora": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "use_mora: cannot be used with adapter: lora",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"use_mora": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_it_is_refused_with_the_reason():
    assert messages(plugins=["MoraPlugin"], use_mora=True)[-1] == (
        "use_mora: MoRA cannot be trained: no published package implements it. "
        "Use adapter: lora, with a larger lora_r and peft_use_rslora."
    )
    assert any(text.startswith("adapter: MoRA cannot be trained") for text in messages(adapter="mora"))
