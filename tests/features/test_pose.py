"""Positional skips."""

import pytest
from tests.helpers import messages

ON = {"use_pose": True, "pose_max_context_len": 4096, "sequence_len": 1024}


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    return [message for message in messages(**keys) if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"use_pose": True}, "pose_max_context_len: is missing."),
        ({**ON, "pose_max_context_len": 1024}, "pose_max_context_len: must be longer than sequence_len (1024)."),
        ({**ON, "pose_num_chunks": 2, "pose_split_on_token_ids": [5]}, "pose_num_chunks: cannot be used with"),
        ({**ON, "sample_packing": True}, "use_pose: cannot be used with sample_packing."),
        ({"pose_num_chunks": 2}, "pose_num_chunks: has no effect: use_pose is not on."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize("keys", [ON, {**ON, "pose_num_chunks": 3}, {"use_pose": False}])
def test_sound_configs(keys):
    assert complaints(**keys) == []
