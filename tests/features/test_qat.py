"""Quantization-aware training."""

import pytest
from tests.helpers import messages

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 8, "lora_target_linear": True}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({**LORA, "qat": {"weight_dtype": "int8"}}, "qat: cannot be used with adapter"),
        ({"load_in_4bit": True, "qat": {"weight_dtype": "int8"}}, "qat: cannot be used with load_in_4bit"),
        ({"qat": {"weight_dtype": "ternary", "activation_dtype": "fp8"}}, "qat.activation_dtype: must be int8"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in messages(**keys)), messages(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"qat": {"weight_dtype": "int4", "activation_dtype": "int8"}},
        {**LORA, "quantization": {"weight_dtype": "nvfp4"}},
    ],
)
def test_only_not_built_yet(keys):
    assert all("does not support it yet" in message for message in messages(**keys))
    assert messages(**keys)
