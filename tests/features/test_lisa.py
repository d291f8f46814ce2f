"""LISA: few layers are trained at a time."""

import pytest
from tests.helpers import complaints, make_run
from tests.models.tiny import load

from newt.extend import Facts
from newt.support.errors import NewtError

LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"lisa_n_layers": 2, "lisa_step_interval": 20}, []),
        ({"lisa_n_layers": 2}, ["lisa_step_interval: is missing. lisa_n_layers needs it."]),
        ({"lisa_step_interval": 2}, ["lisa_n_layers: is missing. lisa_step_interval needs it."]),
        ({"lisa_layers_attribute": "model.layers"}, []),
        (
            {**LORA, "lisa_n_layers": 2, "lisa_step_interval": 20},
            ["lisa_n_layers: cannot be used with adapter. Remove one."],
        ),
    ],
)
def test_rules(keys, expected):
    found = complaints(**keys)
    assert len(found) == len(expected), found
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


def test_lisa_cannot_draw_more_layers_than_there_are():
    facts = Facts(known=True, cpu_bf16=True, model={"model_type": "llama", "num_hidden_layers": 4})
    keys = {"lisa_n_layers": 5, "lisa_step_interval": 20}
    assert complaints(facts, **keys) == ["lisa_n_layers: the model has only 4 layers. Make it smaller."]
    assert complaints(facts, **{**keys, "lisa_n_layers": 4}) == []


def test_the_callback_gets_the_numbers():
    plan = make_run(lisa_n_layers=2, lisa_step_interval=20, lisa_layers_attribute="a.b", seed=7).train_plan()
    callback = plan.callbacks[-1]()
    assert (callback.count, callback.interval, callback.attribute, callback.seed) == (2, 20, "a.b", 7)


def test_it_says_how_many_layers_are_trained_and_looks_for_them_at_once(model_dir):
    keys = {"lisa_n_layers": 1, "lisa_step_interval": 20}
    said = "LISA: 1 of 2 layers are trained at a time, others every 20 steps; what is outside of the layers always is"
    assert said in load(model_dir, **keys).notes
    with pytest.raises(NewtError, match=r"no list of layers 'transformer\.h'\. It has: model\.layers"):
        load(model_dir, **keys, lisa_layers_attribute="transformer.h")
    with pytest.raises(NewtError, match="lisa_n_layers: the model has only 2 layers"):
        load(model_dir, **{**keys, "lisa_n_layers": 3})
