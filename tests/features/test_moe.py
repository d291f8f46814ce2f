"""Mixtures of experts."""

import pytest
from tests.helpers import make_run, messages

from newt.extend import CollisionError, Facts
from newt.features.moe import Moe

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_modules": ["q_proj"]}
QUANTIZED = {**LORA, "load_in_4bit": True, "quantize_moe_experts": True, "gradient_checkpointing": True}


def said(facts=Facts(), **keys):  # noqa: B008
    run = make_run(facts, **keys)
    return [str(problem) for part in run.parts if isinstance(part, Moe) for problem in part.check()]


@pytest.mark.parametrize(
    ("facts", "keys", "expected"),
    [
        (Facts(), QUANTIZED, []),
        (Facts(), {**QUANTIZED, "lora_target_linear": True}, ["lora_target_linear: cannot be used with quantize_moe"]),
        (Facts(), {**QUANTIZED, "load_in_4bit": False}, ["quantize_moe_experts: needs load_in_4bit or load_in_8bit."]),
        (
            Facts(),
            {"load_in_4bit": True, "quantize_moe_experts": True, "gradient_checkpointing": True},
            ["quantize_moe_experts: needs a LoRA adapter. Set adapter: lora."],
        ),
        (Facts(known=True), QUANTIZED, []),
        (
            Facts(),
            {**QUANTIZED, "gradient_checkpointing": False},
            ["quantize_moe_experts: without gradient_checkpointing every layer's experts are in memory in full"],
        ),
        (
            Facts(known=True, model={"model_type": "mixtral", "quantization_config": {"quant_method": "bitsandbytes"}}),
            QUANTIZED,
            ["quantize_moe_experts: the base model's weights are quantized already. Remove it."],
        ),
        (Facts(), {"quantize_moe_experts": False, "llama4_linearized_experts": False}, []),
        (Facts(), {"experts_implementation": "grouped_mm"}, []),
        (Facts(), {"experts_implementation": "scattermoe"}, ["experts_implementation: scattermoe is known, but Newt"]),
        (Facts(), {"experts_implementation": "group"}, ["experts_implementation: unknown implementation 'group'."]),
        (Facts(), {"llama4_linearized_experts": True}, []),
        (Facts(known=True, model={"model_type": "llama4_text"}), {"llama4_linearized_experts": True}, []),
        (
            Facts(known=True, model={"model_type": "mixtral"}),
            {"llama4_linearized_experts": True},
            ["llama4_linearized_experts: the base model is a mixtral model. Remove it."],
        ),
    ],
)
def test_rules(facts, keys, expected):
    found = said(facts, **keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


def test_the_implementation_reaches_the_loader():
    assert make_run(experts_implementation="batched_mm").load_plan().kwargs["experts_implementation"] == "batched_mm"
    assert "experts_implementation" not in make_run().load_plan().kwargs
    with pytest.raises(CollisionError):
        make_run(experts_implementation="eager").load_plan().kwargs.fill(by="x", experts_implementation="grouped_mm")


def test_keys_to_come():
    assert "llama4_linearized_experts: is known, but Newt does not support it yet." in messages(
        llama4_linearized_experts=True
    )
    assert messages(quantize_moe_experts=False, llama4_linearized_experts=False) == []
