"""Rules of energy-based fine-tuning."""

import pytest
from tests.helpers import make_run, messages


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    return [message for message in messages(**keys) if "does not support it yet" not in message]


EBFT = {"rl": "ebft", "datasets": [{"path": "a/b", "type": "completion"}]}
FLEX = {"attn_implementation": "flex_attention", "gradient_checkpointing": True}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "ebft: is missing."),
        ({"ebft": {"feature_layers": [0.5, 2.0]}}, "ebft.feature_layers: must be a list of depths between 0 and 1."),
        ({"ebft": {"n_samples_per_prompt": 1}}, "ebft.n_samples_per_prompt: must be at least 2"),
        ({"ebft": {"mode": "strided"}, **FLEX, "torch_compile": True}, "torch_compile: cannot be used with ebft.mode"),
        ({"ebft": {"mode": "strided"}, **FLEX, "activation_offloading": True}, "activation_offloading: cannot be used"),
        (
            {"ebft": {"mode": "strided"}, **FLEX, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
            "needs use_reentrant: true.",
        ),
    ],
)
def test_complaints_of_ebft(keys, text):
    assert any(text in message for message in complaints(**EBFT, **keys)), complaints(**EBFT, **keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"ebft": {"mode": "structured"}},
        {"ebft": {"n_samples_per_prompt": 1, "advantage_estimator": "reinforce"}},
        {"ebft": {"mode": "structured"}, "gradient_checkpointing": True, "torch_compile": True},
    ],
)
def test_sound_ebft(keys):
    assert not [message for message in complaints(**EBFT, **keys) if "ebft" in message]


def test_the_block_needs_the_method():
    assert make_run(**EBFT, ebft={}).method.name == "ebft"
    assert "ebft: has no effect: rl is not ebft." in complaints(ebft={"mode": "strided"})[0]
