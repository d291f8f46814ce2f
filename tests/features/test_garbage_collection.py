"""Garbage collection."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    ("keys", "steps"), [({"gc_steps": 5}, 5), ({"gc_collect_steps": 7}, 7), ({"gc_steps": -1}, -1)]
)
def test_the_callback_gets_the_steps(keys, steps):
    assert complaints(**keys) == []
    (make,) = make_run(**keys).train_plan().callbacks
    assert make().steps == steps


@pytest.mark.parametrize("keys", [{}, {"gc_steps": 0}, {"torch_empty_cache_steps": 0}])
def test_off(keys):
    plan = make_run(**keys).train_plan()
    assert plan.callbacks == []
    assert "torch_empty_cache_steps" not in plan.args


def test_the_cache_is_the_trainers_business():
    plan = make_run(torch_empty_cache_steps=10).train_plan()
    assert plan.args["torch_empty_cache_steps"] == 10
    assert plan.callbacks == []


def test_two_numbers_must_agree():
    assert complaints(gc_steps=5, gc_collect_steps=5) == []
    assert any("gc_collect_steps, which is 7" in text for text in complaints(gc_steps=5, gc_collect_steps=7))
