"""Early stopping."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "there is nothing to evaluate"),
        ({"val_set_size": 0.1, "eval_strategy": "no"}, "there is nothing to evaluate"),
        ({"val_set_size": 0.1, "save_steps": 10, "eval_steps": 4}, "save_steps: must be a multiple of eval_steps"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(early_stopping_patience=2, **keys))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"save_steps": 8, "eval_steps": 4},
        {"saves_per_epoch": 1, "evals_per_epoch": 2},
        {"save_steps": 0.5, "eval_steps": 0.1},
    ],
)
def test_accepted(keys):
    assert complaints(early_stopping_patience=2, val_set_size=0.1, **keys) == []


@pytest.mark.parametrize(
    ("keys", "metric", "greater"),
    [
        ({}, "eval_loss", False),
        ({"metric_for_best_model": "accuracy"}, "accuracy", True),
        ({"metric_for_best_model": "accuracy", "greater_is_better": False}, "accuracy", False),
    ],
)
def test_what_the_trainer_gets(keys, metric, greater):
    plan = make_run(early_stopping_patience=2, val_set_size=0.1, **keys).train_plan()
    assert plan.args["metric_for_best_model"] == metric
    assert plan.args["greater_is_better"] is greater
    (make,) = plan.callbacks
    assert make().early_stopping_patience == 2


def test_nothing_without_the_key():
    plan = make_run().train_plan()
    assert plan.callbacks == []
    assert "metric_for_best_model" not in plan.args
