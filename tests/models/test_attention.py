"""The capability table: each refusal says why."""

import pytest

from newt.extend import Facts
from newt.models.attention import head_dim, needs, refusal


def gpu(capability=(9, 0), *packages, **model):
    return Facts(known=True, gpus=1, capability=capability, packages=dict.fromkeys(packages, "1"), model=model or None)


CPU = Facts(known=True)
EVERY = ("flash-attn", "flash-attn-3", "flash-attn-4", "kernels", "xformers", "sageattention")


@pytest.mark.parametrize(
    ("name", "facts", "text"),
    [
        ("flash_attention_2", CPU, "needs a GPU, and there is none."),
        ("xformers", CPU, "needs a GPU, and there is none."),
        ("org/kernel", CPU, "needs a GPU, and there is none."),
        ("flex_attention", CPU, "cannot train on a CPU: it has no backward pass there."),
        ("sage", Facts(), "cannot train: it has no backward pass, and cuts the gradient off."),
        ("sage", gpu((9, 0), *EVERY), "cannot train"),
        ("flash_attention_2", gpu((9, 0)), "needs the package flash-attn or kernels."),
        ("xformers", gpu((9, 0), "flash-attn"), "needs the package xformers."),
        ("org/kernel@v1:attend", gpu((9, 0)), "needs the package kernels."),
        ("flash_attention_2", gpu((7, 5), *EVERY), "needs compute capability 8.0, and this GPU has 7.5."),
        ("flash_attention_4", gpu((8, 0), *EVERY), "needs compute capability 9.0, and this GPU has 8.0."),
        ("flash_attention_3", gpu((10, 0), *EVERY), "does not know GPUs of compute capability 10.0."),
        ("flash_attention_4", gpu((12, 0), *EVERY), "does not know GPUs of compute capability 12.0."),
        (
            "flash_attention_2",
            gpu((9, 0), *EVERY, head_dim=512),
            "heads of at most 256 numbers, and this model has 512",
        ),
        (
            "flash_attention_4",
            gpu((9, 0), *EVERY, head_dim=256),
            "heads of at most 128 numbers, and this model has 256",
        ),
    ],
)
def test_refusals(name, facts, text):
    found = refusal(name, facts, half=True)
    assert found is not None
    assert text in found[0]
    assert found[1]


@pytest.mark.parametrize(
    "name", ["flash_attention_2", "flash_attention_3", "xformers", "kernels-community/flash-attn3"]
)
def test_accepted_where_it_runs_and_only_in_16_bits(name):
    facts = gpu((9, 0), *EVERY, head_dim=128)
    assert refusal(name, facts, half=True) is None
    assert "bfloat16 and float16 only" in str(refusal(name, facts, half=False))


@pytest.mark.parametrize("name", ["eager", "sdpa", "flex_attention", "flash_attention_2", "xformers"])
def test_nothing_is_said_without_facts(name):
    assert refusal(name, Facts(), half=False) is None


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_always_possible(name):
    assert refusal(name, CPU, half=False) is None
    assert refusal(name, gpu((7, 0), head_dim=512), half=False) is None


def test_names():
    assert needs("spda") is None
    assert needs("a/b/c") is None
    assert needs("org/name@main:function") is needs("org/name")


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (None, None),
        ({"model_type": "x"}, None),
        ({"hidden_size": 64, "num_attention_heads": 4}, 16),
        ({"hidden_size": 64, "num_attention_heads": 4, "head_dim": 32}, 32),
        ({"text_config": {"head_dim": 256, "global_head_dim": 512}}, 512),
        ({"head_dim": 256, "per_layer_config": {"05": {"head_dim": 512}}}, 512),
        ({"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}, 192),
    ],
)
def test_head_dim(model, size):
    assert head_dim(model) == size
