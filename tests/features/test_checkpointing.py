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
