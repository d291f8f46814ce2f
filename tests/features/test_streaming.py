"""Limits of streamed data."""

import pytest
from tests.helpers import make_run
from tests.helpers import messages as complaints

TWO = [{"path": "a/b", "type": "alpaca"}, {"path": "c/d", "type": "alpaca"}]
ON = {"streaming": True, "max_steps": 10}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"streaming": True}, "max_steps: is missing: a stream has no known length."),
        ({**ON, "val_set_size": 0.1}, "val_set_size: cannot be used with streamed data"),
        ({**ON, "dataset_exact_deduplication": True}, "dataset_exact_deduplication: cannot be used with streamed"),
        ({**ON, "group_by_length": True}, "group_by_length: has no effect on streamed data."),
        ({**ON, "curriculum_sampling": True}, "curriculum_sampling: has no effect on streamed data."),
        ({**ON, "dataloader_num_workers": 4}, "dataloader_num_workers: has no effect beyond 1"),
        (
            {**ON, "dataset_shard_num": 2, "dataset_shard_idx": 0},
            "dataset_shard_num: cannot be used with streamed data.",
        ),
        ({**ON, "skip_prepare_dataset": True}, "skip_prepare_dataset: cannot be used with streamed data."),
        ({**ON, "datasets": [{**TWO[0], "shards": 3}]}, "datasets.0.shards: cannot be used with streamed data"),
        (
            {**ON, "rl": "dpo", "datasets": [{"path": "a/b", "type": "chat_template.default"}]},
            "streaming: cannot be used with rl.",
        ),
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
        {**ON, "sample_packing": True, "datasets": TWO},
        {**ON, "datasets": [{**TWO[0], "weight": 2.0}, TWO[1]], "weight_by": "tokens"},
        {**ON, "dataloader_num_workers": 0},
        {**ON, "streaming_multipack_buffer_size": 5},
        {"streaming_multipack_buffer_size": 10_000},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


def test_the_plan_says_how_many_rows_are_read_at_once():
    assert make_run(**ON).data_plan().stream.get() == 10_000
    assert make_run(**ON, streaming_multipack_buffer_size=7).data_plan().stream.get() == 7
    assert not make_run().data_plan().stream
