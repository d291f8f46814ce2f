"""Base models in 4 or 8 bits."""

import pytest
from tests.helpers import make_run, messages

from newt.extend import Facts
from newt.features.quantized_base import QuantizedBase

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
QLORA = {**LORA, "adapter": "qlora"}
COMING = "is known, but Newt does not support it yet."


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
                **LORA,
                "model_quantization_config": "Mxfp4Config",
                "fsdp_version": 2,
                "fsdp_config": {"cpu_ram_efficient_loading": True},
            },
            ["fsdp_config.cpu_ram_efficient_loading: cannot be used with Mxfp4Config. Set it to false."],
        ),
        (
            {
                **LORA,
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
        (
            {**LORA, "load_in_4bit": True, "bnb_config_kwargs": {"bnb_4bit_quant_typ": "nf4"}},
            ["bnb_config_kwargs.bnb_4bit_quant_typ: unknown argument. Valid: bnb_4bit_compute_dtype, "],
        ),
        (
            {**LORA, "load_in_4bit": True, "bnb_config_kwargs": {"bnb_4bit_quant_type": "int4"}},
            ["bnb_config_kwargs.bnb_4bit_quant_type: unknown kind 'int4'. Valid: nf4, fp4."],
        ),
        (
            {**LORA, "load_in_4bit": True, "reinit_weights": True},
            ["reinit_weights: cannot be used with load_in_4bit: random weights would be quantized and never trained."],
        ),
        (
            {**LORA, "load_in_4bit": True, "peft_init_lora_weights": "pissa"},
            ["peft_init_lora_weights: pissa takes a part out of the base's weights, which load_in_4bit would round"],
        ),
        ({**LORA, "load_in_8bit": True, "bf16": "full"}, ["bf16: full cannot be used with load_in_8bit."]),
        (
            {"model_quantization_config": "FineGrainedFP8Config"},
            ["model_quantization_config: quantized weights cannot be trained. Set adapter: lora, or model_quant"],
        ),
        (
            {**LORA, "model_quantization_config": "Mxfp4Config", "model_quantization_config_kwargs": {"bits": 4}},
            ["model_quantization_config_kwargs.bits: unknown argument. Valid: dequantize, modules_to_not_convert."],
        ),
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
    packages = {"gptqmodel": "7.6.0", "optimum": "2.0"}
    assert said(Facts(known=True, packages=packages, model=model), **LORA, gptq=True) == (
        [expected] if expected else []
    )


BNB = {"bitsandbytes": "0.50.2"}
MOE = {
    "model_type": "qwen3_moe", "num_experts": 128, "hidden_size": 2048, "moe_intermediate_size": 768,
    "num_hidden_layers": 48, "vocab_size": 151936,
}  # fmt: skip
FEW = {"model_type": "mixtral", "num_local_experts": 2, "hidden_size": 512, "intermediate_size": 64,
       "num_hidden_layers": 2, "vocab_size": 32000}  # fmt: skip
FOUR = {**LORA, "load_in_4bit": True}
FULL = {"dequantize": True}


def known(gpus=0, packages=BNB, **model):
    return Facts(known=True, gpus=gpus, packages=packages, model={"model_type": "llama", **model})


@pytest.mark.parametrize(
    ("facts", "keys", "expected"),
    [
        (known(), FOUR, []),
        (known(packages={}), FOUR, ["load_in_4bit: needs the package bitsandbytes. pip install 'newt-tune[bnb]'"]),
        (known(quantization_config={"quant_method": "bitsandbytes"}), FOUR, []),
        (
            known(quantization_config={"quant_method": "awq"}),
            FOUR,
            ["load_in_4bit: the base model's weights are quantized already, by awq. Remove it."],
        ),
        (
            known(quantization_config={"quant_method": "gptq"}),
            {**LORA, "load_in_8bit": True},
            ["load_in_8bit: the base model's weights are quantized by gptq. Use gptq: true."],
        ),
        (known(**MOE), FOUR, ["quantize_moe_experts: load_in_4bit leaves the experts in 16 bits: about 95% of this"]),
        (known(**MOE), {**FOUR, "quantize_moe_experts": True, "lora_target_linear": None}, []),
        (known(**MOE), {**FOUR, "quantize_moe_experts": False}, ["quantize_moe_experts: load_in_4bit leaves the exp"]),
        (known(**FEW), FOUR, ["quantize_moe_experts: load_in_4bit leaves the experts in 16 bits: about 1% of this"]),
        (
            known(quantization_config={"quant_method": "gptq"}),
            {**LORA, "gptq": True},
            ["gptq: needs the packages gptqmodel and optimum. pip install gptqmodel optimum."],
        ),
        (
            known(packages={"gptqmodel": "5", "optimum": "2"}, quantization_config={"quant_method": "gptq"}),
            {**LORA, "gptq": True},
            [],
        ),
        (
            known(quantization_config={"quant_method": "fp8"}),
            {**LORA, "model_quantization_config": "Mxfp4Config"},
            ["model_quantization_config: the base model's weights are quantized by fp8. Remove it."],
        ),
        (
            known(),
            {"model_quantization_config": "FineGrainedFP8Config", "model_quantization_config_kwargs": FULL},
            ["model_quantization_config: the base model's weights are not stored as fp8. Remove it."],
        ),
        (
            known(quantization_config={"quant_method": "mxfp8"}),
            {"model_quantization_config": "FineGrainedFP8Config", "model_quantization_config_kwargs": FULL},
            [],
        ),
        (
            known(quantization_config={"quant_method": "compressed-tensors"}),
            {**LORA, "model_quantization_config": "CompressedTensorsConfig"},
            ["model_quantization_config: compressed weights pass no gradient, or take no adapter. Set model_quantiza"],
        ),
        (
            known(quantization_config={"quant_method": "compressed-tensors"}),
            {"model_quantization_config": "CompressedTensorsConfig", "model_quantization_config_kwargs": FULL},
            ["model_quantization_config: needs the package compressed-tensors. pip install 'compressed-tensors>=0.15'"],
        ),
        (
            known(packages={"compressed-tensors": "0.20"}, quantization_config={"quant_method": "compressed-tensors"}),
            {"model_quantization_config": "CompressedTensorsConfig", "model_quantization_config_kwargs": FULL},
            [],
        ),
        (
            known(model_type="falcon"),
            FOUR,
            ["load_in_4bit: bitsandbytes quantizes none of this model's layers, which are of the class FalconLinear."],
        ),
        (
            known(quantization_config={"quant_method": "mxfp4"}),
            {**LORA, "model_quantization_config": "Mxfp4Config"},
            ["model_quantization_config: weights in this format need a GPU, and there is none. Set model_quant"],
        ),
        (
            known(1, quantization_config={"quant_method": "mxfp4"}),
            {**LORA, "model_quantization_config": "Mxfp4Config"},
            [],
        ),
    ],
)
def test_rules_of_a_known_model(facts, keys, expected):
    found = said(facts, **keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(
    ("model", "keys", "kind"),
    [(MOE, {}, "invalid"), (MOE, {"quantize_moe_experts": False}, "warning"), (FEW, {}, "warning")],
)
def test_experts_that_stay_are_an_error_or_a_warning(model, keys, kind):
    run = make_run(known(**model), **FOUR, **keys)
    found = [problem for part in run.parts if isinstance(part, QuantizedBase) for problem in part.check()]
    assert [problem.kind for problem in found] == [kind]


def arguments(facts=Facts(), dtype="bfloat16", **keys):  # noqa: B008
    run = make_run(facts, **{**LORA, **keys})
    return next(part for part in run.parts if isinstance(part, QuantizedBase)).arguments(dtype)


def test_arguments_of_4_bits():
    assert arguments(load_in_4bit=True) == {
        "llm_int8_threshold": 6.0,
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "bfloat16",
    }
    assert arguments(load_in_4bit=True, dtype="float16")["bnb_4bit_compute_dtype"] == "float16"
    given = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False, "llm_int8_threshold": 5.0}
    assert arguments(load_in_4bit=True, bnb_config_kwargs=given).items() >= given.items()


@pytest.mark.parametrize(("kind", "storage"), [("jamba", "float32"), ("qwen2_moe", "float32"), ("llama", "bfloat16")])
def test_storage(kind, storage):
    facts = Facts(model={"model_type": kind})
    assert arguments(facts, load_in_4bit=True)["bnb_4bit_quant_storage"] == storage
    sharded = arguments(facts, load_in_4bit=True, fsdp_version=2, fsdp_config={"reshard_after_forward": True})
    assert sharded["bnb_4bit_quant_storage"] == "bfloat16"


@pytest.mark.parametrize(
    ("kind", "key", "skipped"),
    [
        ("falcon_h1", "load_in_4bit", ["out_proj"]),
        ("falcon_h1", "load_in_8bit", ["out_proj"]),
        ("jamba", "load_in_8bit", ["mamba"]),
        ("jamba", "load_in_4bit", None),
        ("llama", "load_in_8bit", None),
    ],
)
def test_modules_that_are_skipped(kind, key, skipped):
    facts = Facts(model={"model_type": kind})
    found = arguments(facts, **{key: True}).get("llm_int8_skip_modules")
    assert found == (skipped and [*skipped, "lm_head", "embed_out"])
    more = arguments(facts, **{key: True}, bnb_config_kwargs={"llm_int8_skip_modules": ["gate"]})
    assert more["llm_int8_skip_modules"] == [*(skipped or []), "gate", "lm_head", "embed_out"]


def test_8_bits():
    assert arguments(load_in_8bit=True) == {"llm_int8_threshold": 6.0, "load_in_8bit": True}


def test_the_slot_is_filled_where_the_checkpoint_does_not_say_it_itself():
    assert make_run(Facts(), **FOUR).load_plan().quantization
    stored = known(quantization_config={"quant_method": "bitsandbytes"})
    assert not make_run(stored, **FOUR).load_plan().quantization
    assert make_run(Facts(), **LORA, gptq=True).load_plan().quantization.get()().bits == 4
    assert not make_run(Facts(), **LORA).load_plan().quantization


def test_a_model_of_three_values_is_to_come():
    assert f"use_onebitllms: {COMING}" in messages(use_onebitllms=True)


def test_arguments_alone_have_no_effect():
    assert messages(bnb_config_kwargs={"a": 1})[0].startswith("bnb_config_kwargs: has no effect: the base model is not")
