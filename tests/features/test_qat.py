"""Quantization-aware training."""

from __future__ import annotations

import pytest
from tests.helpers import make_run, messages

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 8, "lora_target_linear": True}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({**LORA, "qat": {"weight_dtype": "int4"}}, "qat: cannot be used with adapter"),
        ({"load_in_4bit": True, "qat": {"weight_dtype": "int4"}}, "qat: cannot be used with load_in_4bit"),
        ({"qat": {"weight_dtype": "ternary", "activation_dtype": "fp8"}}, "qat.activation_dtype: must be int8"),
        ({"qat": {"group_size": 32}}, "qat.weight_dtype: must be said"),
        ({"qat": {"weight_dtype": "int8"}}, "qat.weight_dtype: int8 without activation_dtype is not supported."),
        ({"qat": {"weight_dtype": "int4", "activation_dtype": "int4"}}, "int4 with activation_dtype: int4 is not"),
        ({"qat": {"weight_dtype": "int8", "activation_dtype": "int8"}}, "int8 with activation_dtype: int8 is not"),
        ({"qat": {"weight_dtype": "fp8"}}, "fp8 without activation_dtype is not supported. Valid: int4, int4 with"),
        ({"qat": {"weight_dtype": "nvfp4", "group_size": 32}}, "qat.group_size: nvfp4 has blocks of 16."),
        ({"qat": {"weight_dtype": "mxfp4", "group_size": 16}}, "qat.group_size: mxfp4 has blocks of 32."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in messages(**keys)), messages(**keys)


@pytest.mark.parametrize(
    ("weight", "activation"),
    [
        *(("int4", other) for other in (None, "int8", "fp8", "float8")),
        *(
            ("float8_e4m3fn", "fp8"),
            ("nvfp4", None),
            ("nvfp4", "nvfp4"),
            ("mxfp4", None),
            ("mxfp4", "mxfp4"),
            ("ternary", None),
            ("ternary", "int8"),
        ),
    ],
)
def test_valid_pairs(weight, activation):
    assert messages(qat={"weight_dtype": weight, "activation_dtype": activation}) == []


def test_it_is_switched_on_after_some_steps():
    run = make_run(qat={"weight_dtype": "int4", "fake_quant_after_n_steps": 3})
    (callback,) = [made for make in run.train_plan().callbacks if type(made := make()).__name__ == "FakeQuant"]
    assert callback.after == 3
    assert not make_run(qat={"weight_dtype": "int4"}).train_plan().callbacks
    assert len(run.load_plan().prepare_base) == len(make_run().load_plan().prepare_base) + 1
