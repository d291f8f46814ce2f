"""Which number formats a config and a machine give."""

import pytest
from tests.helpers import make_config, make_run, messages

from newt.extend import Facts
from newt.features.precision import Precision

CPU = Facts(known=True)
CPU_BF16 = Facts(known=True, cpu_bf16=True)
AMPERE = Facts(known=True, gpus=1, capability=(8, 0))
TURING = Facts(known=True, gpus=1, capability=(7, 5))


@pytest.mark.parametrize(
    ("keys", "facts", "kind"),
    [
        ({}, CPU, "float32"),
        ({}, CPU_BF16, "bf16"),
        ({}, AMPERE, "bf16"),
        ({}, TURING, "fp16"),
        ({"bf16": False}, AMPERE, "float32"),
        ({"bf16": True}, AMPERE, "bf16"),
        ({"bf16": "full"}, AMPERE, "bf16"),
        ({"fp16": True}, AMPERE, "fp16"),
        ({"bfloat16": True}, AMPERE, "bfloat16"),
        ({"float32": True}, CPU_BF16, "float32"),
    ],
)
def test_kind(keys, facts, kind):
    assert Precision(make_config(**keys), facts).kind() == kind


def test_trained_weights_stay_float32_and_a_frozen_base_does_not():
    lora = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
    assert make_run(CPU_BF16).load_plan().kwargs["dtype"] == "float32"
    assert make_run(CPU_BF16, **lora).load_plan().kwargs["dtype"] == "bfloat16"
    assert make_run(CPU, **lora).load_plan().kwargs["dtype"] == "float32"


@pytest.mark.parametrize(
    ("keys", "facts", "text"),
    [
        ({"bf16": True, "fp16": True}, AMPERE, "fp16: cannot be used with bf16."),
        ({"fp16": True}, CPU, "fp16: needs a GPU"),
        ({"bf16": True}, TURING, "bf16: this machine does not compute in bfloat16."),
        ({"tf32": True}, TURING, "tf32: this machine has no TensorFloat-32."),
    ],
)
def test_refusals(keys, facts, text):
    assert any(text in message for message in messages(facts, **keys))


def test_nothing_is_said_about_an_unknown_machine():
    assert messages(bf16=True) == []
