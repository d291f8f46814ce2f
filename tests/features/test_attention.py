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
        ({"flex_attention": True}, CPU, "no backward pass"),
        ({"xformers_attention": True}, CPU, "does not support it yet"),
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
