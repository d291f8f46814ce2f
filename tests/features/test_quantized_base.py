"""Base models in 4 or 8 bits."""

import pytest
from tests.helpers import make_run, messages

from newt.extend import Facts
from newt.features.quantized_base import QuantizedBase

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
QLORA = {**LORA, "adapter": "qlora"}
COMING = "is known, but Newt does not support it yet."
KINDS = ["load_in_4bit", "load_in_8bit", "gptq", "use_onebitllms"]


def said(facts=Facts(), **keys):  # noqa: B008
    run = make_run(facts, **keys)
    return [str(problem) for part in run.parts if isinstance(part, QuantizedBase) for problem in part.check()]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({**LORA, "load_in_4bit": True}, []),
        ({**LORA, "load_in_8bit": True}, []),
        ({**QLORA, "load_in_4bit": True}, []),
        (LORA, []),
        ({"load_in_4bit": False, "load_in_8bit": False, "gptq": False}, []),
        ({"load_in_8bit": True}, ["load_in_8bit: quantized weights cannot be trained. Set adapter: lora"]),
        ({"load_in_4bit": True}, ["load_in_4bit: quantized weights cannot be trained."]),
        ({"gptq": True}, ["gptq: quantized weights cannot be trained."]),
        ({**LORA, "load_in_4bit": True, "load_in_8bit": True}, ["load_in_4bit: cannot be used with load_in_8bit."]),
        (QLORA, ["load_in_4bit: qlora needs it. Set load_in_4bit: true."]),
        ({**QLORA, "load_in_8bit": True}, ["load_in_8bit: cannot be used with qlora. Use adapter: lora."]),
        ({**QLORA, "gptq": True}, ["gptq: cannot be used with qlora."]),
        ({**LORA, "gptq": True, "load_in_8bit": True}, ["gptq: cannot be used with load_in_8bit."]),
        ({**LORA, "gptq": True}, []),
        ({**LORA, "gptq": True, "model_revision": "main"}, ["revision_of_model: cannot be used with gptq."]),
        ({"model_quantization_config": "Mxfp4Config", "model_quantization_config_kwargs": {"dequantize": True}}, []),
        (
            {**LORA, "model_quantization_config": "Mxfp4Config", "load_in_8bit": True},
            ["model_quantization_config: cannot be used with load_in_8bit."],
        ),
        (
            {
                "model_quantization_config": "Mxfp4Config",
                "fsdp_version": 2,
                "fsdp_config": {"cpu_ram_efficient_loading": True},
            },
            ["fsdp_config.cpu_ram_efficient_loading: cannot be used with Mxfp4Config. Set it to false."],
        ),
        (
            {
                "model_quantization_config": "FineGrainedFP8Config",
                "fsdp_version": 2,
                "fsdp_config": {"cpu_ram_efficient_loading": True},
            },
            [],
        ),
        (
            {**LORA, "load_in_4bit": True, "model_quantization_config_kwargs": {"a": 1}},
            ["model_quantization_config_kwargs: has no effect"],
        ),
        ({**LORA, "gptq": True, "bnb_config_kwargs": {"a": 1}}, ["bnb_config_kwargs: has no effect"]),
        ({**LORA, "load_in_4bit": True, "bnb_config_kwargs": {"bnb_4bit_quant_type": "nf4"}}, []),
        ({"use_onebitllms": True}, []),
        ({**LORA, "use_onebitllms": True}, ["use_onebitllms: cannot be used with an adapter."]),
    ],
)
def test_rules(keys, expected):
    found = said(**keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, "gptq: the base model is not quantized. Remove it."),
        ({"quant_method": "awq"}, "gptq: the base model is quantized by awq. Remove it."),
        ({"quant_method": "gptq"}, None),
    ],
)
def test_gptq_needs_such_a_checkpoint(stored, expected):
    model = {"model_type": "llama"} | ({"quantization_config": stored} if stored else {})
    assert said(Facts(known=True, model=model), **LORA, gptq=True) == ([expected] if expected else [])


@pytest.mark.parametrize("key", KINDS)
def test_each_kind_is_to_come(key):
    assert f"{key}: {COMING}" in messages(**{**LORA, key: True})
    assert messages(**{**LORA, key: False}) == []


def test_arguments_alone_have_no_effect():
    assert messages(bnb_config_kwargs={"a": 1})[0].startswith("bnb_config_kwargs: has no effect: the base model is not")
