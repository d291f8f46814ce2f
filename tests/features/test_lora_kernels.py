"""Fused LoRA kernels."""

import pytest
from tests.helpers import complaints

from newt.extend import Facts

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
FSDP = {"fsdp_version": 2, "fsdp_config": {"reshard_after_forward": True}}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({**LORA, "lora_mlp_kernel": True}, []),
        ({**LORA, "lora_mlp_kernel": False, "lora_qkv_kernel": False, "lora_o_kernel": False}, []),
        ({"lora_mlp_kernel": False}, []),
        ({"lora_mlp_kernel": True}, ["lora_mlp_kernel: needs a LoRA adapter."]),
        ({**LORA, "lora_o_kernel": True, "load_in_8bit": True}, ["lora_o_kernel: cannot be used with load_in_8bit."]),
        (
            {**LORA, "lora_qkv_kernel": True, "trust_remote_code": True},
            ["trust_remote_code: code that", "lora_qkv_kernel: cannot be used with trust_remote_code."],
        ),
    ],
)
def test_rules(keys, expected):
    found = complaints(**keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


def test_kernels_and_the_machine():
    keys = {**LORA, "lora_mlp_kernel": True}
    assert complaints(Facts(known=True, cpu_bf16=True), **keys) == [
        "lora_mlp_kernel: needs a GPU, and there is none. Remove it."
    ]
    gpu = Facts(known=True, gpus=1, capability=(9, 0))
    assert complaints(gpu, **keys) == []
    two = Facts(known=True, gpus=2, capability=(9, 0))
    old = {"fsdp_version": 1, "fsdp_config": {"use_orig_params": True}}
    assert "lora_mlp_kernel: cannot be used with FSDP 1. Set fsdp_version: 2." in complaints(two, **keys, **old)
    assert not [text for text in complaints(two, **keys, **FSDP) if text.startswith("lora_mlp_kernel")]
