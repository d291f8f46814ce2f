"""Flat batches."""

import pytest
from tests.helpers import make_run, messages, unsupported

from newt.extend import Facts

FLASH = {"attn_implementation": "flash_attention_2", "micro_batch_size": 2}


def about(**keys):
    """Problems of the key itself."""
    found = messages(**{"batch_flattening": True, **FLASH, **keys})
    return [text for text in found if text.startswith("batch_flattening")]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"attn_implementation": "sdpa"}, "batch_flattening: is right with every attention, but"),
        ({"attn_implementation": None}, "With attn_implementation: flash_attention_2 it is faster."),
        ({"use_pose": True}, "batch_flattening: cannot be used with use_pose"),
        ({"sample_packing": True}, "batch_flattening: cannot be used with sample_packing"),
        ({"micro_batch_size": 1}, "batch_flattening: has no effect: micro_batch_size is 1."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in about(**keys)), about(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"attn_implementation": "kernels-community/flash-attn"},
        {"batch_flattening": "auto", "attn_implementation": "sdpa"},
        {"batch_flattening": False, "attn_implementation": "sdpa"},
    ],
)
def test_sound_configs(keys):
    assert about(**keys) == []


def flat(kind="llama", **keys):
    """Whether batches are flat."""
    facts = Facts(known=True, model={"model_type": kind})
    return bool(make_run(facts, **{"micro_batch_size": 2, **keys}).data_plan().flatten.get())


def test_true_is_flat_everywhere_and_auto_where_it_saves_time():
    assert flat(batch_flattening=True, attn_implementation="sdpa")
    assert flat(batch_flattening="auto", attn_implementation="flash_attention_2")
    assert not flat(batch_flattening="auto", attn_implementation="sdpa")
    assert not flat(batch_flattening="auto", attn_implementation="flash_attention_2", sample_packing=True)
    assert not flat("mamba", batch_flattening="auto", attn_implementation="flash_attention_2")
    assert not flat(attn_implementation="flash_attention_2")


def test_it_is_refused_where_isolation_is_not_proved():
    facts = Facts(known=True, model={"model_type": "mamba"})
    refusal = "batch_flattening: packed samples do not stay apart in mamba models: the state of its"
    assert any(refusal in text for text in messages(facts, micro_batch_size=2, batch_flattening=True))
    assert not any(refusal in text for text in messages(facts, micro_batch_size=2, batch_flattening="auto"))


def test_preference_rows_are_not_flattened_yet():
    pairs = {"rl": "dpo", "datasets": [{"path": "p.jsonl", "type": "chatml.intel"}]}
    assert "batch_flattening" in unsupported(batch_flattening=True, **pairs, **FLASH)
