"""Offloading of activations and frozen weights."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"activation_offloading": True}, "activation_offloading: needs gradient checkpointing."),
        ({"layer_offloading": True}, "layer_offloading: needs frozen weights"),
        (
            {
                "ple_cpu_offload": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
                "fsdp_version": 2,
                "fsdp_config": {"offload_params": False},
            },
            "ple_cpu_offload: cannot be used with FSDP.",
        ),
        (
            {
                "ple_cpu_offload": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
                "deepspeed": {"a": 1},
            },
            "ple_cpu_offload: cannot be used with DeepSpeed.",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"activation_offloading": False},
        {"activation_offloading": "disk", "gradient_checkpointing": True},
        {"layer_offloading": True, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True},
        {"ple_cpu_offload": True, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"activation_offloading": "legacy", "gradient_checkpointing": True}, {"activation_offloading"}),
        ({"activation_offloading": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
