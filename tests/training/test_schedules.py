"""Every curve against its formula, at every step."""

import math

import pytest
import torch

from newt.support.errors import NewtError
from newt.training.schedules import ARGUMENTS, min_lr_cosine, one_cycle, own_curve, quadratic_warmup, rex

STEPS = 40


@pytest.mark.parametrize("warmup", [0, 2, 7])
@pytest.mark.parametrize("minimum", [0.0, 0.1])
def test_rex(warmup, minimum):
    curve = rex(STEPS, warmup, minimum)
    for step in range(STEPS):
        if step < warmup:
            assert curve(step) == step / warmup
            continue
        z = 1 - (step - warmup) / (STEPS - warmup)
        assert curve(step) == pytest.approx(minimum + (1 - minimum) * z / (0.1 + 0.9 * z), abs=1e-12)
    assert curve(warmup) == 1.0
    assert [curve(step) for step in (STEPS, STEPS + 1, 10 * STEPS)] == [minimum] * 3


def test_rex_with_nothing_but_warmup():
    assert [rex(4, 4)(step) for step in range(6)] == [0, 0.25, 0.5, 0.75, 0, 0]


@pytest.mark.parametrize("warmup", [0, 2, 8])
def test_quadratic_warmup(warmup):
    curve = quadratic_warmup(STEPS, warmup)
    for step in range(STEPS + 1):
        after = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup)))
        assert curve(step) == pytest.approx((step / warmup) ** 2 if step < warmup else after, abs=1e-12)


@pytest.mark.parametrize(("constant", "end"), [(1.0, 40), (0.8, 32), (0.5, 20)])
def test_cosine_with_a_least_rate(constant, end):
    curve = min_lr_cosine(STEPS, 4, 0.2, constant)
    for step in range(STEPS + 3):
        p = min(1.0, (step - 4) / (end - 4))
        expected = step / 4 if step < 4 else 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * p))
        assert curve(step) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize(("warmup", "three"), [(0, False), (2, False), (12, False), (12, True)])
@pytest.mark.parametrize("div", [25.0, 10.0])
def test_one_cycle_is_that_of_torch(warmup, three, div, strategy):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, STEPS, pct_start=warmup / STEPS, anneal_strategy=strategy, cycle_momentum=False,
        div_factor=div, final_div_factor=100.0, three_phase=three,
    )  # fmt: skip
    curve = one_cycle(
        STEPS, warmup, div_factor=div, final_div_factor=100.0, anneal_strategy=strategy, three_phase=three
    )
    for step in range(STEPS):
        assert curve(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12), step
        optimizer.step()
        if step < STEPS - 1:
            theirs.step()
    assert curve(STEPS + 5) == pytest.approx(1 / div / 100)


def test_one_cycle_refuses_another_shape():
    with pytest.raises(NewtError, match="anneal_strategy must be cos or linear, not 'cubic'"):
        one_cycle(10, 2, anneal_strategy="cubic")


@pytest.mark.parametrize("name", ["rex", "one_cycle"])
def test_a_warmup_longer_than_the_run_is_refused(name):
    with pytest.raises(NewtError, match=f"warmup_steps: 11 is more than the 10 steps of the run, and {name}"):
        own_curve(name, 10, 11, 0.0, {})


def test_the_names_of_transformers_have_no_curve_here():
    from transformers.trainer_utils import SchedulerType

    theirs = {item.value for item in SchedulerType}
    assert theirs <= set(ARGUMENTS)
    assert all(own_curve(name, 10, 1, 0.0, {}) is None for name in theirs)


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"rex", "one_cycle", "reduce_lr_on_plateau", "greedy"}))
def test_the_arguments_are_those_of_transformers(name):
    import inspect

    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    taken = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[name]).parameters
    ours = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "kwargs", "warmup_lr"}
    assert set(ARGUMENTS[name]) == set(taken) - ours
