"""Variants of attention."""

import pytest
from tests.helpers import complaints, make_run, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"flex_attn_compile_kwargs": {"dynamic": False}}, "flex_attn_compile_kwargs: needs flex attention."),
        ({"scaling_softmax": True, "attn_implementation": "sdpa"}, "scaling_softmax: needs flex attention."),
        ({"scaling_softmax_factor": 0.5}, "has no effect: scaling_softmax is not on"),
        (
            {"flash_attn_d512": True, "large_head_attention": "sdpa"},
            "is another spelling of large_head_attention, which is sdpa",
        ),
        (
            {"gemma4_hybrid_attn_impl": True, "attn_implementation": "sdpa"},
            "needs flash_attention_2, and attn_implementation asks for another",
        ),
        (
            {"gemma4_hybrid_attn_impl": True, "flex_attention": True},
            "needs flash_attention_2, and flex_attention asks for another",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (
            Facts(model={"model_type": "llama"}),
            {"gemma4_hybrid_attn_impl": True},
            "is for Gemma 4, and this is a llama model",
        ),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(model={"model_type": "gemma4"}), {"gemma4_hybrid_attn_impl": True}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"sdpa_varlen": False, "fused_attn_kernel": False},
        {"scaling_softmax": True, "scaling_softmax_factor": 0.5, "attn_implementation": "flex_attention"},
        {"gemma4_hybrid_attn_impl": True},
        {"gemma4_hybrid_attn_impl": True, "attn_implementation": "flash_attention_2"},
        {"large_head_attention": "auto"},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"fused_attn_kernel": True}, {"fused_attn_kernel"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected


@pytest.mark.parametrize(
    ("keys", "called"),
    [
        ({"scaling_softmax": True}, [("use_scaled_softmax", 0.43, 0.0)]),
        (
            {"scaling_softmax": True, "scaling_softmax_factor": 0.5, "scaling_softmax_bias": 1.0},
            [("use_scaled_softmax", 0.5, 1.0)],
        ),
        ({"flex_attn_compile_kwargs": {"dynamic": False}}, [("use_compiled_flex", {"dynamic": False})]),
        ({"scaling_softmax": False}, []),
    ],
)
def test_the_finished_model_gets_another_attention(monkeypatch, keys, called):
    from newt.models import attention_functions

    seen = []
    for name in ("use_scaled_softmax", "use_compiled_flex"):
        monkeypatch.setattr(attention_functions, name, lambda model, *rest, name=name: seen.append((name, *rest)))
    plan = make_run(attn_implementation="flex_attention", **keys).load_plan()
    for prepare in plan.prepare:
        prepare(None)
    assert seen == called


def test_scaled_and_compiled_flex_attention_are_two_functions():
    keys = {"scaling_softmax": True, "flex_attn_compile_kwargs": {"dynamic": False}}
    (found,) = complaints(attn_implementation="flex_attention", **keys)
    assert "cannot be used with flex_attn_compile_kwargs yet" in found
