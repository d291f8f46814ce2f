"""Older options of flash-attn."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"flash_attn_fuse_mlp": True, "adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True},
            "flash_attn_fuse_mlp: cannot be used with adapter",
        ),
        ({"flash_optimum": True, "bf16": True}, "flash_optimum: cannot be used with bf16."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"flash_attn_cross_entropy": False, "flash_attn_fuse_mlp": False},
        {"flash_attn_fuse_mlp": True},
        {"flash_optimum": True, "bf16": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"flash_attn_cross_entropy": True}, {"flash_attn_cross_entropy"}),
        ({"flash_attn_cross_entropy": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
