"""The curves of the learning rate."""

import math

import pytest
from tests.helpers import complaints, make_config, make_run, messages

from newt.features.schedules import SUPPORTED, Schedules, min_lr_cosine


def curve(steps: int, **keys) -> list[float]:
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_run(**keys).train_plan().schedule.get()(optimizer, steps)
    values = []
    for _ in range(steps):
        values.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return values


@pytest.mark.parametrize(
    ("keys", "steps", "warmup"),
    [
        ({}, 1000, 30),
        ({}, 100_000, 100),
        ({}, 10, 0),
        ({"warmup_steps": 7}, 10, 7),
        ({"warmup_steps": 0.25}, 10, 3),
        ({"warmup_ratio": 0.25}, 10, 3),
    ],
)
def test_warmup(keys, steps, warmup):
    assert Schedules(make_config(**keys)).warmup(steps) == warmup


def test_cosine_follows_its_formula():
    expected = [s / 4 if s < 4 else 0.5 * (1 + math.cos(math.pi * (s - 4) / 16)) for s in range(20)]
    assert curve(20, warmup_steps=4) == pytest.approx(expected)


def test_linear_follows_its_formula():
    assert curve(10, lr_scheduler="linear", warmup_steps=0) == pytest.approx([1 - s / 10 for s in range(10)])


def test_cosine_with_minimum_and_constant_end():
    values = curve(20, cosine_min_lr_ratio=0.1, cosine_constant_lr_ratio=0.5, warmup_steps=2)
    assert values[2] == 1.0
    assert values[6] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 4 / 8)))
    assert values[10:] == pytest.approx([0.1] * 10)


def test_minimum_is_reached_exactly_at_the_end():
    factor = min_lr_cosine(steps=10, warmup=0, minimum=0.2)
    assert factor(0) == 1.0
    assert factor(10) == pytest.approx(0.2)
    assert factor(15) == pytest.approx(0.2)


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_supported_schedule_runs(name):
    kwargs = {
        "cosine_with_min_lr": {"min_lr_rate": 0.1},
        "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
        "warmup_stable_decay": {"num_decay_steps": 2},
    }
    assert len(curve(8, lr_scheduler=name, warmup_steps=2, lr_scheduler_kwargs=kwargs.get(name))) == 8


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"lr_scheduler": "cosin"}, "unknown schedule 'cosin'. Did you mean cosine?"),
        ({"lr_scheduler": "rex"}, "rex is known, but Newt does not support it yet."),
        ({"warmup_steps": 1, "warmup_ratio": 0.1}, "warmup_ratio: cannot be used with warmup_steps."),
        ({"lr_scheduler": "linear", "cosine_min_lr_ratio": 0.1}, "has no effect: lr_scheduler is linear."),
        ({"lr_scheduler": "linear", "lr_quadratic_warmup": True}, "lr_quadratic_warmup: has no effect"),
        ({"lr_div_factor": 10}, "lr_div_factor: has no effect: lr_scheduler is cosine."),
        ({"lr_quadratic_warmup": True, "cosine_min_lr_ratio": 0.1}, "has no effect: lr_quadratic_warmup ends at 0."),
        ({"warmup_ratio": 0.1, "rl": "simpo"}, "warmup_ratio: cannot be used with rl: simpo."),
    ],
)
def test_refusals(keys, text):
    assert any(text in message for message in messages(**keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"lr_scheduler": "rex", "cosine_min_lr_ratio": 0.1},
        {"lr_scheduler": "linear", "jagged_restart_steps": 50, "cosine_min_lr_ratio": 0.1},
        {"lr_scheduler": "one_cycle", "lr_div_factor": 10},
        {"lr_scheduler": "linear", "lr_quadratic_warmup": False},
        {"lr_quadratic_warmup": True},
    ],
)
def test_keys_of_schedules_to_come_are_taken(keys):
    assert complaints(**keys) == []
