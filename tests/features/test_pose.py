"""Positional skips."""

import numpy as np
import pytest
from tests.helpers import make_run, messages

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
        ({**ON, "streaming": True, "max_steps": 5}, "use_pose: cannot be used with streaming"),
        ({"pose_num_chunks": 2}, "pose_num_chunks: has no effect: use_pose is not on."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize("keys", [ON, {**ON, "pose_num_chunks": 3}, {"use_pose": False}])
def test_sound_configs(keys):
    assert complaints(**keys) == []


def skips(**keys):
    """The transform of a run."""
    (transform,) = make_run(**{**ON, **keys}).data_plan().transforms
    return transform


def test_positions_depend_on_seed_row_and_epoch_alone():
    row = {"input_ids": np.arange(100, dtype=np.int32), "labels": np.arange(100, dtype=np.int32)}
    first = skips()(row, 7, 0)
    assert np.array_equal(first["position_ids"], skips()(row, 7, 0)["position_ids"])
    others = (skips()(row, 7, 1), skips()(row, 8, 0), skips(seed=1)(row, 7, 0))
    assert not any(np.array_equal(first["position_ids"], other["position_ids"]) for other in others)
    assert np.array_equal(first["labels"], row["labels"])
    assert "position_ids" not in row


def test_the_keys_decide_where_rows_are_cut():
    row = {"input_ids": np.array([5, 6, 7, 9, 6, 7, 9, 6], np.int32)}
    jumps = [np.flatnonzero(np.diff(skips(pose_num_chunks=4)(row, n, 0)["position_ids"]) > 1) + 1 for n in range(50)]
    assert set(np.concatenate(jumps)) == {2, 4, 6}
    cut = skips(pose_split_on_token_ids=[9])
    jumps = [np.flatnonzero(np.diff(cut(row, n, 0)["position_ids"]) > 1) + 1 for n in range(50)]
    assert set(np.concatenate(jumps)) == {3, 6}


def test_without_the_switch_rows_stay():
    assert make_run(use_pose=False).data_plan().transforms == []
