"""Flat batches."""

import pytest
from tests.helpers import messages

FLASH = {"attn_implementation": "flash_attention_2", "micro_batch_size": 2}


def about(**keys):
    """Problems of the key itself."""
    found = messages(**{"batch_flattening": True, **FLASH, **keys})
    return [text for text in found if text.startswith("batch_flattening") and "not support it yet" not in text]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"attn_implementation": "sdpa"}, "batch_flattening: needs attention that keeps the rows"),
        ({"attn_implementation": None}, "batch_flattening: needs attention that keeps the rows"),
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
