"""Choice of the attention implementation."""

import pytest
from tests.helpers import make_run, messages

from newt.extend import Facts

CPU = Facts(known=True)
GPU = Facts(known=True, gpus=1, capability=(9, 0))


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({}, None),
        ({"sdp_attention": True}, "sdpa"),
        ({"eager_attention": True, "flex_attention": True}, "flex_attention"),
        ({"flash_attention": False}, None),
        ({"attn_implementation": "eager"}, "eager"),
    ],
)
def test_implementation(keys, name):
    assert make_run(**keys).load_plan().kwargs.get("attn_implementation") == name


@pytest.mark.parametrize(
    ("keys", "facts", "text"),
    [
        ({"attn_implementation": "flash"}, CPU, "Write flash_attention_2."),
        ({"attn_implementation": "spda"}, CPU, "unknown implementation 'spda'"),
        ({"attn_implementation": "sdpa", "flash_attention": True}, CPU, "cannot be used with attn_implementation"),
        ({"flash_attention": True}, CPU, "needs a GPU"),
        ({"flash_attention": True}, GPU, "needs the package flash-attn"),
        ({"flex_attention": True}, CPU, "no backward pass there"),
        ({"xformers_attention": True}, CPU, "needs a GPU"),
    ],
)
def test_refusals(keys, facts, text):
    assert any(text in message for message in messages(facts, **keys))


def test_flash_attention_is_accepted_where_it_runs():
    facts = Facts(known=True, gpus=1, capability=(9, 0), packages={"flash-attn": "2.8"})
    assert messages(facts, attn_implementation="flash_attention_2") == []
    (warning,) = messages(facts, flash_attention=True)
    assert warning == "flash_attention: is an older spelling. Write attn_implementation: flash_attention_2."


def test_the_first_of_several_older_flags_wins():
    found = messages(CPU, sdp_attention=True, eager_attention=True)
    assert found[1:] == ["eager_attention: has no effect: sdp_attention goes first. Remove it."]


@pytest.mark.parametrize(
    ("model", "name", "text"),
    [
        ({"model_type": "gpt_oss"}, "sdpa", "gpt_oss models have no sdpa. Use eager, or remove it."),
        ({"model_type": "llama4_text"}, "flash_attention_2", "llama4_text models have no flash_attention_2."),
        ({"model_type": "gemma4", "text_config": {"global_head_dim": 512}}, "flash_attention_2", "at most 256 numbers"),
        ({"model_type": "llama", "head_dim": 64}, "sage", "sage cannot train: it has no backward pass"),
        ({"model_type": "llama"}, "kernels-community/flash-attn3", "needs the package kernels"),
        ({"model_type": "llama"}, "fp8", "does not support it yet"),
    ],
)
def test_refusals_that_depend_on_the_model(model, name, text):
    facts = Facts(known=True, gpus=1, capability=(9, 0), packages={"flash-attn": "2.8"}, model=model)
    (found,) = messages(facts, attn_implementation=name)
    assert text in found


def test_16_bits():
    facts = Facts(known=True, gpus=1, capability=(9, 0), packages={"flash-attn": "2.8"})
    (found,) = messages(facts, attn_implementation="flash_attention_2", float32=True, bf16=False)
    assert "computes in bfloat16 and float16 only. Set bf16: true (or fp16: true), or use sdpa." in found


def test_the_hybrid_of_gemma_4_is_flash_attention_with_other_large_heads():
    model = {"model_type": "gemma4", "text_config": {"global_head_dim": 512}}
    facts = Facts(known=True, gpus=1, capability=(9, 0), packages={"flash-attn": "2.8"}, model=model)
    assert messages(facts, gemma4_hybrid_attn_impl=True) == []
    run = make_run(facts, gemma4_hybrid_attn_impl=True, sample_packing=True)
    plan = run.load_plan()
    assert plan.kwargs["attn_implementation"] == "flash_attention_2"
    assert len(plan.prepare) > len(make_run(facts, attn_implementation="flash_attention_2").load_plan().prepare)
    assert run.data_plan().long_rows.get() is True  # flash attention finds the samples of one row
    (refused,) = messages(CPU, gemma4_hybrid_attn_impl=True)
    assert refused.startswith("gemma4_hybrid_attn_impl: flash_attention_2 needs a GPU")


def test_xformers_is_set_on_the_finished_model():
    facts = Facts(known=True, gpus=1, capability=(9, 0), packages={"xformers": "0.0.35"})
    assert messages(facts, attn_implementation="xformers") == []
    plan = make_run(facts, attn_implementation="xformers").load_plan()
    assert "attn_implementation" not in plan.kwargs
    assert [step.__name__ for step in plan.prepare if step.__name__ == "_use_xformers"] == ["_use_xformers"]


@pytest.mark.parametrize(
    ("facts", "keys", "used"),
    [
        (CPU, {"sample_packing": True}, True),
        (CPU, {"sample_packing": True, "attn_implementation": "sdpa"}, True),
        (CPU, {"sample_packing": True, "attn_implementation": "eager"}, False),
        (CPU, {}, False),
        (Facts(known=True, gpus=1, capability=(9, 0)), {"sample_packing": True}, False),
    ],
)
def test_packed_rows_are_computed_sample_by_sample_on_a_cpu(facts, keys, used):
    names = [getattr(step, "__name__", "") for step in make_run(facts, **keys).load_plan().prepare]
    assert ("_use_sdpa_by_sample" in names) is used
