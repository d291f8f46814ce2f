"""Rules of the core sections on data, saving and batches."""

import pytest
from tests.helpers import complaints, messages


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
        ({"eval_steps": 5}, "eval_steps: there is nothing to evaluate."),
        ({"save_safetensors": False}, "save_safetensors: false is not possible"),
        (
            {"skip_prepare_dataset": True},
            "datasets.0.type: skip_prepare_dataset takes rows that are tokenized already. Leave type empty",
        ),
        ({"auto_find_batch_size": True}, "auto_find_batch_size: cannot halve micro_batch_size: 1."),
        (
            {"accelerator_config": {"dispatch_batches": True}},
            "accelerator_config.dispatch_batches: has no effect: every process reads its own batches",
        ),
        (
            {"sample_packing": True, "sample_packing_sequentially": True},
            "sample_packing_sequentially: keeps neighbours together, but the sequences are still shuffled.",
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


def test_a_benchmark_alone_is_something_to_evaluate():
    assert not [text for text in messages(eval_steps=5, do_bench_eval=True) if "nothing to evaluate" in text]
    assert [text for text in messages(eval_steps=5) if "nothing to evaluate" in text]


@pytest.mark.parametrize(
    ("keys", "wrong"),
    [
        ({"evals_per_epoch": 1, "saves_per_epoch": 2}, True),
        ({"evals_per_epoch": 2, "saves_per_epoch": 1}, False),
        ({"evals_per_epoch": 2, "saves_per_epoch": 2}, False),
        ({"eval_steps": 10, "save_steps": 20}, False),
        ({"eval_steps": 10, "save_steps": 15}, True),
        ({"eval_steps": 10}, False),
        ({"evals_per_epoch": 1, "save_steps": 5}, True),
        ({"eval_steps": 10, "save_strategy": "no"}, True),
    ],
)
def test_the_best_checkpoint_must_have_been_evaluated(keys, wrong):
    found = complaints(load_best_model_at_end=True, val_set_size=0.1, **keys)
    assert [text for text in found if "not every checkpoint" in text] == (found if wrong else [])


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"gradient_accumulation_steps": None}, "gradient_accumulation_steps: the batch is not fully given."),
        ({"micro_batch_size": None}, "micro_batch_size: the batch is not fully given. Set micro_batch_size."),
        ({"micro_batch_size": None, "gradient_accumulation_steps": None}, "Set micro_batch_size and gradient_acc"),
        ({"micro_batch_size": None, "gradient_accumulation_steps": None, "batch_size": 4}, "Set micro_batch_size."),
    ],
)
def test_the_missing_half_of_the_batch_is_named(keys, text):
    (found,) = complaints(**keys)
    assert text in found


def test_a_dataset_that_stands_twice_is_noticed():
    entry = {"path": "rows.jsonl", "type": "chat_template"}
    (found,) = complaints(datasets=[entry, {**entry, "split": "train[:5]"}, entry], val_set_size=0.1)
    assert found.startswith("datasets.2: stands twice: its rows are trained twice, and evaluated too.")
