"""Variants of attention."""

import pytest
from tests.helpers import complaints, unsupported

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
