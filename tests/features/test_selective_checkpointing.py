"""Selective checkpointing."""

import pytest
from tests.helpers import complaints, make_run, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"selective_checkpointing": True}, "needs gradient checkpointing"),
        (
            {
                "selective_checkpointing": True,
                "gradient_checkpointing": True,
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
            },
            "use_reentrant: must be false with selective_checkpointing",
        ),
        (
            {"selective_checkpointing": True, "gradient_checkpointing": True, "activation_offloading": True},
            "cannot be used with activation_offloading: true.",
        ),
        (
            {"selective_checkpointing": True, "gradient_checkpointing": True, "activation_offloading": "disk"},
            "cannot be used with activation_offloading: disk.",
        ),
        (
            {"selective_checkpointing": True, "gradient_checkpointing": "offload"},
            "cannot be used with gradient_checkpointing: offload.",
        ),
        (
            {"selective_checkpointing": {"offload": True}, "gradient_checkpointing": True, "torch_compile": True},
            "selective_checkpointing.offload: cannot be used with torch_compile",
        ),
        (
            {"selective_checkpointing": True, "gradient_checkpointing": True, "torch_compile": True},
            "is not tested with torch_compile",
        ),
        (
            {
                "selective_checkpointing": {"save": ["mm"]},
                "gradient_checkpointing": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "mm: results of matrix products cannot be kept",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"selective_checkpointing": False},
        {"selective_checkpointing": True, "gradient_checkpointing": True},
        {"selective_checkpointing": {"save": ["mm"]}, "gradient_checkpointing": True},
        {
            "selective_checkpointing": {"offload": True},
            "gradient_checkpointing": True,
            "activation_offloading": "hidden_states",
        },
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    "value",
    [True, {"offload": True, "save_sliding_window": True, "recompute_layer_types": ["full_attention"]}],
)
def test_the_whole_block_is_there(value):
    assert unsupported(selective_checkpointing=value, gradient_checkpointing=True) == set()


@pytest.mark.parametrize("nested", [False, True])
def test_kinds_of_layers_that_the_model_lacks(nested):
    config = {"layer_types": ["full_attention", "sliding_attention"]}
    facts = Facts(model={"model_type": "gemma3", "text_config": config} if nested else config)
    keys = {"gradient_checkpointing": True}
    block = {"recompute_layer_types": ["chunked_attention"]}
    (found,) = complaints(facts, selective_checkpointing=block, **keys)
    assert "no layers of type 'chunked_attention'; it has: full_attention, sliding_attention." in found
    block = {"recompute_layer_types": ["sliding_attention"]}
    assert complaints(facts, selective_checkpointing=block, **keys) == []


def test_the_block_reaches_the_model(monkeypatch):
    pytest.importorskip("torch")
    from newt.training import checkpointing

    seen = []
    monkeypatch.setattr(checkpointing, "enable_selective", lambda *args, **keys: seen.append((args, keys)))
    block = {"save": ["mm"], "save_sliding_window": True, "recompute_layer_types": ["a"], "offload": True}
    make_run(selective_checkpointing=block, gradient_checkpointing=True).load_plan().prepare[-1]("the model")
    make_run(selective_checkpointing=True, gradient_checkpointing=True).load_plan().prepare[-1]("the model")
    assert seen == [
        (("the model", ("mm",)), {"sliding_window": True, "recomputed": ("a",), "offload": True}),
        (("the model", ("attention",)), {"sliding_window": False, "recomputed": (), "offload": False}),
    ]
