"""The keys of gradient checkpointing."""

import pytest
from tests.helpers import complaints, make_run, messages

from newt.extend import Facts


def test_it_reaches_the_trainer_without_reentrance():
    args = make_run(gradient_checkpointing=True).train_plan().args
    assert args["gradient_checkpointing"] is True
    assert args["gradient_checkpointing_kwargs"] == {"use_reentrant": False}
    assert "gradient_checkpointing" not in make_run().train_plan().args


def test_the_user_may_choose_reentrance():
    args = (
        make_run(gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True}).train_plan().args
    )
    assert args["gradient_checkpointing_kwargs"] == {"use_reentrant": True}


def test_messages():
    assert "gradient_checkpointing is not on" in messages(gradient_checkpointing_kwargs={"use_reentrant": True})[0]
    assert messages(gradient_checkpointing="offload") == messages(gradient_checkpointing="offload_disk") == []


def test_the_selective_form_switches_it_on_itself():
    keys = {"gradient_checkpointing": True, "selective_checkpointing": True}
    assert "gradient_checkpointing" not in make_run(**keys).train_plan().args


@pytest.mark.parametrize(
    ("keys", "facts", "text"),
    [
        ({"unfrozen_parameters": ["lm_head"]}, Facts(), "must be false with unfrozen_parameters"),
        ({}, Facts(model={"model_type": "gemma4"}), "must be false for Gemma 4"),
    ],
)
def test_reentrance_is_refused(keys, facts, text):
    on = {"gradient_checkpointing": True, **keys}
    found = complaints(facts, **on, gradient_checkpointing_kwargs={"use_reentrant": True})
    assert any(text in message for message in found)
    assert not any("use_reentrant" in message for message in complaints(facts, **on))


LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


@pytest.mark.parametrize(
    ("keys", "recomputed"),
    [
        ({"gradient_checkpointing": True, "activation_offloading": True}, True),
        ({"gradient_checkpointing": "offload"}, True),
        ({"gradient_checkpointing": True, **LORA}, True),
        ({"gradient_checkpointing": True, "activation_offloading": True, **LORA}, False),
        ({"gradient_checkpointing": "offload", **LORA}, False),
        ({"gradient_checkpointing": True, "activation_offloading": "legacy", **LORA}, True),
        ({"gradient_checkpointing": True, "activation_offloading": "hidden_states", **LORA}, True),
        ({"gradient_checkpointing": True, "activation_offloading": "disk", **LORA}, True),
    ],
)
def test_with_an_adapter_offloading_takes_the_place_of_recomputation(keys, recomputed):
    plan = make_run(**keys).train_plan()
    assert plan.args.get("gradient_checkpointing", False) is recomputed
    plain = make_run(**{key: value for key, value in keys.items() if key in LORA}).train_plan()
    assert len(plan.callbacks) - len(plain.callbacks) == recomputed, "the borders of layers are watched"


def test_arguments_of_recomputation_have_no_effect_then():
    keys = {"gradient_checkpointing": True, "activation_offloading": True}
    kwargs = {"gradient_checkpointing_kwargs": {"use_reentrant": True}}
    (found,) = complaints(**keys, **kwargs, **LORA)
    assert "gradient_checkpointing_kwargs: has no effect: with an adapter, activation_offloading: true" in found
    assert complaints(**keys, **kwargs) == []


@pytest.mark.parametrize(
    ("kind", "keys", "text"),
    [
        ("mpt", {}, "MPT models cannot do it"),
        ("prompt-llama", {}, None),
        ("nemotron_h", {}, "needs sample_packing with Nemotron-H models"),
        ("nemotron_h", {"sample_packing": True}, None),
    ],
)
def test_models_that_cannot(kind, keys, text):
    found = complaints(Facts(model={"model_type": kind}), gradient_checkpointing=True, **keys)
    mine = [line for line in found if "gradient_checkpointing: " in line]
    assert [text] == [text for line in mine if text and text in line] if text else not mine
    off = complaints(Facts(model={"model_type": kind}), **keys)
    assert not any("gradient_checkpointing: " in line for line in off)
