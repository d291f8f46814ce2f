"""Rules of pretraining."""

import pytest
from tests.helpers import MINIMAL, make_config, make_run, messages

from newt.methods.pretrain import PretrainSettings

ON = {"datasets": None, "pretraining_dataset": [{"path": "a/b"}], "max_steps": 10, "streaming": True}


def complaints(**keys):
    """What is wrong, without what is only not supported yet."""
    return [message for message in messages(**keys) if "does not support it yet" not in message]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({**ON, "datasets": MINIMAL["datasets"]}, "pretraining_dataset: cannot be used with datasets."),
        ({**ON, "max_steps": None}, "max_steps: is missing"),
        ({**ON, "val_set_size": 0.1}, "val_set_size: cannot be used with streamed data"),
        ({**ON, "streaming": None}, "pretraining_dataset: is streamed; say so"),
        ({**ON, "streaming": False}, "streaming: pretraining_dataset is always streamed."),
        ({**ON, "dataset_exact_deduplication": True}, "dataset_exact_deduplication: cannot be used with streamed"),
        (
            {**ON, "sample_packing": True, "pretraining_sample_concatenation": True},
            "pretraining_sample_concatenation: cannot be used with sample_packing.",
        ),
        ({"pretraining_sample_concatenation": True}, "has no effect: pretraining_dataset is not set."),
        ({**ON, "rl": "dpo"}, "pretraining_dataset: cannot be used with rl."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        ON,
        {**ON, "sample_packing": True, "pretrain_multipack_attn": False, "streaming_multipack_buffer_size": 500},
        {**ON, "accelerator_config": {"split_batches": False}},
        {"pretrain_multipack_attn": True},
    ],
)
def test_sound_configs(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize("written", ["a/b", {"path": "a/b"}, [{"path": "a/b"}]])
def test_a_path_and_one_entry_stand_for_a_list(written):
    cfg = make_config(**{**ON, "pretraining_dataset": written})
    (entry,) = cfg[PretrainSettings].pretraining_dataset
    assert (entry.path, entry.type, entry.text_column) == ("a/b", "pretrain", "text")


def test_texts_select_the_method():
    assert make_run(**ON).method.name == "pretrain"
    assert make_run().method.name == "sft"
