"""Rules of the core sections on data, saving and batches."""

import pytest
from tests.helpers import messages


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"datasets": None}, "datasets: is missing. Add the training data"),
        ({"val_set_size": 1.5}, "val_set_size: must be a share below 1, or a whole number of rows."),
        (
            {"dataset_exact_deduplication": True, "skip_prepare_dataset": True},
            "dataset_exact_deduplication: cannot be used with skip_prepare_dataset.",
        ),
        ({"dataset_shard_num": 4}, "dataset_shard_num: needs dataset_shard_idx."),
        ({"dataset_shard_idx": 4}, "dataset_shard_idx: needs dataset_shard_num."),
        (
            {"dataset_shard_num": 4, "dataset_shard_idx": 4},
            "dataset_shard_idx: must be less than dataset_shard_num (4).",
        ),
        ({"save_safetensors": False}, "save_safetensors: false is not possible"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size: is known, but Newt does not support it yet."),
        ({"skip_prepare_dataset": True}, "skip_prepare_dataset: is known, but Newt does not support it yet."),
        (
            {"accelerator_config": {"dispatch_batches": True}},
            "accelerator_config.dispatch_batches: is known, but Newt does not support it yet.",
        ),
        (
            {"sample_packing": True, "multipack_real_batches": True},
            "multipack_real_batches: is known, but Newt does not",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in messages(**keys)), messages(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"val_set_size": 100},
        {"val_set_size": 0.1},
        {"save_safetensors": True},
        {"remove_unused_columns": False},
        {"remove_unused_columns": True},
        {"accelerator_config": {"dispatch_batches": False, "split_batches": None}},
        {"auto_find_batch_size": False, "dataset_keep_in_memory": False, "multipack_real_batches": False},
    ],
)
def test_sound_configs(keys):
    assert messages(**keys) == []
