"""Answers generated during training."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"eval_table_size": 5}, "Use generate_samples: true"),
        ({"eval_table_size": 5, "sample_packing": True}, "needs rows that are not packed"),
        ({"generate_samples": True}, "generate_samples: answers are generated at evaluations, and there is nothing"),
        ({"generation_top_p": 0.9}, "has no effect: generate_samples is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"eval_table_size": 0, "eval_max_new_tokens": 128},
        {"generate_samples": True, "generation_top_p": 0.9, "generation_do_sample": False, "val_set_size": 0.1},
        {"generate_samples": False, "generation_temperature": 0.7},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_which_answers_are_generated(monkeypatch):
    from newt.training import generations

    made = []

    class Noted:
        def __init__(self, wanted):
            made.append(wanted)

        def __call__(self, trainer):
            return {}

    monkeypatch.setattr(generations, "Generations", Noted)
    keys = {"generate_samples": True, "generation_do_sample": False, "generation_top_k": 5, "eval_table_size": 4}
    evaluations = make_run(val_set_size=0.1, **keys).train_plan().evaluations
    for evaluate in (*evaluations, *evaluations):
        assert evaluate(None) == {}
    samples, table = made
    assert (samples.kind, samples.count, samples.max_new_tokens) == ("generation_samples", 3, 50)
    assert (samples.temperature, samples.top_p, samples.top_k, samples.prompt_ratio) == (0.0, 1.0, 5, 0.5)
    assert (table.kind, table.count, table.max_new_tokens, table.temperature) == ("eval_predictions", 4, 128, 0.0)
    assert make_run().train_plan().evaluations == []
