"""Rules of pretraining."""

from itertools import pairwise

import numpy as np
import pytest
from tests.helpers import MINIMAL, make_config, make_run
from tests.helpers import messages as complaints

from newt.extend import Facts
from newt.methods.pretrain import Concatenation, PretrainSettings

ON = {"datasets": None, "pretraining_dataset": [{"path": "a/b"}], "max_steps": 10, "streaming": True}


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


@pytest.mark.parametrize(
    ("keys", "join", "packed"),
    [
        ({}, None, False),
        ({"pretraining_sample_concatenation": True}, True, True),
        ({"sample_packing": True}, None, True),
        ({"sample_packing": True, "pretrain_multipack_attn": False}, False, True),
    ],
)
def test_how_texts_share_a_sequence(keys, join, packed):
    plan = make_run(**ON, **keys).data_plan()
    assert (plan.join.get(), bool(plan.pack)) == (join, packed)


def test_texts_are_joined_in_their_order_with_a_padding_token_behind_each():
    order, offsets = Concatenation(10)(np.array([4, 4, 4, 10, 9, 1]), 0)
    # 4 + 1 + 4 + 1 fill a sequence; a text that fills one by itself needs no padding.
    assert [order[low:high].tolist() for low, high in pairwise(offsets)] == [[0, 1], [2], [3], [4], [5]]


def test_joined_texts_need_no_isolation():
    unknown = Facts(known=True, model={"model_type": "nobody-knows-it"})
    packed = {**ON, "sample_packing": True}
    assert any("not proved that packed samples stay apart" in text for text in complaints(unknown, **packed))
    assert complaints(unknown, **packed, pretrain_multipack_attn=False) == []
    # Evaluation rows are kept apart.
    tests = [{"path": "a/b", "type": "completion"}]
    found = complaints(unknown, **packed, pretrain_multipack_attn=False, test_datasets=tests)
    assert any("not proved that packed samples stay apart" in text for text in found)


def test_the_column_of_the_texts_is_compared_with_the_file():
    facts = Facts(known=True, columns={"pretraining_dataset.0": ("body", "id")})
    (told,) = complaints(facts, **ON)
    assert told == (
        "pretraining_dataset.0.type: the rows have no column 'text'; they have: body, id. "
        "Name the right column in text_column, or choose another type."
    )


def test_the_texts_are_the_training_data():
    run = make_run(**{**ON, "pretraining_dataset": [{"path": "a/b"}, {"path": "c/d", "weight": 2.0, "skip": 3}]})
    assert [fmt.entry.path for fmt in run.data_plan().formats] == ["a/b", "c/d"]
