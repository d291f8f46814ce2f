"""Selective checkpointing."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"selective_checkpointing": True}, "needs gradient checkpointing"),
        (
            {
                "selective_checkpointing": True,
                "gradient_checkpointing": True,
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
            },
            "use_reentrant: must be false with selective_checkpointing",
        ),
        (
            {"selective_checkpointing": True, "gradient_checkpointing": True, "activation_offloading": True},
            "cannot be used with activation_offloading: true.",
        ),
        (
            {"selective_checkpointing": True, "gradient_checkpointing": True, "torch_compile": True},
            "is not tested with torch_compile",
        ),
        (
            {
                "selective_checkpointing": {"save": ["mm"]},
                "gradient_checkpointing": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "mm: results of matrix products cannot be kept",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"selective_checkpointing": False},
        {"selective_checkpointing": True, "gradient_checkpointing": True},
        {"selective_checkpointing": {"save": ["mm"]}, "gradient_checkpointing": True},
        {
            "selective_checkpointing": {"offload": True},
            "gradient_checkpointing": True,
            "activation_offloading": "hidden_states",
        },
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("value", "expected"), [(True, set()), ({"offload": True}, {"selective_checkpointing.offload"})]
)
def test_what_is_not_built_yet(value, expected):
    assert unsupported(selective_checkpointing=value, gradient_checkpointing=True) == expected
