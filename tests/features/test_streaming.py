"""Limits of streamed data."""

import pytest
from tests.helpers import messages

TWO = [{"path": "a/b", "type": "alpaca"}, {"path": "c/d", "type": "alpaca"}]
ON = {"streaming": True, "max_steps": 10}


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    return [message for message in messages(**keys) if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"streaming": True}, "max_steps: is missing: a stream has no known length."),
        ({**ON, "val_set_size": 0.1}, "val_set_size: cannot be used with streamed data"),
        ({**ON, "dataset_exact_deduplication": True}, "dataset_exact_deduplication: cannot be used with streamed"),
        ({**ON, "sample_packing": True, "datasets": TWO}, "sample_packing: cannot be used with several streamed"),
        ({**ON, "group_by_length": True}, "group_by_length: reads the whole stream"),
        ({"streaming_multipack_buffer_size": 5}, "streaming_multipack_buffer_size: has no effect: streaming is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        ON,
        {"streaming": False, "val_set_size": 0.1},
        {**ON, "sample_packing": True},
        {**ON, "datasets": TWO},
        {**ON, "streaming_multipack_buffer_size": 5},
        {"streaming_multipack_buffer_size": 10_000},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_it_is_not_built_yet():
    assert messages(**ON) == ["streaming: is known, but Newt does not support it yet."]
