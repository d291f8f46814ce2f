"""Restarts of the learning rate."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"jagged_restart_warmup_steps": 5}, "has no effect: jagged_restart_steps is not set"),
        ({"jagged_restart_steps": 10}, "is shorter than the warmup (10) and the annealing (1)"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"jagged_restart_steps": 100, "jagged_restart_warmup_steps": 5, "jagged_restart_anneal_steps": 2},
        {"jagged_restart_steps": 100, "cosine_min_lr_ratio": 0.1, "lr_scheduler": "linear"},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def factors(run, steps, rate=1.0):
    """Learning rate at each step, as the plan's schedule gives it."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = run.train_plan().schedule.get()(optimizer, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_rate_falls_and_rises_again():
    """Period 6, rise 2, fall 3, smallest factor 0.1: t = 1 1 1 | 1 2/3 1/3 | 0 1/2 1 1 2/3 1/3 | 0 1/2 ..."""
    keys = {"jagged_restart_steps": 6, "jagged_restart_warmup_steps": 2, "jagged_restart_anneal_steps": 3}
    run = make_run(lr_scheduler="constant", cosine_min_lr_ratio=None, **keys)
    parts = [1, 1, 1, 1, 2 / 3, 1 / 3, 0, 1 / 2, 1, 1, 2 / 3, 1 / 3, 0, 1 / 2]
    assert factors(run, 14) == pytest.approx([0.001 + 0.999 * part for part in parts])


def test_it_scales_any_schedule_and_ends_at_the_smallest_rate_of_the_cosine():
    keys = {"jagged_restart_steps": 5, "jagged_restart_warmup_steps": 2, "warmup_steps": 2}
    plain = factors(make_run(cosine_min_lr_ratio=0.25, warmup_steps=2), 12)
    jagged = factors(make_run(cosine_min_lr_ratio=0.25, **keys), 12)
    scales = [1, 1, 1, 1, 1, 0.25, 0.625, 1, 1, 1, 0.25, 0.625]
    assert jagged == pytest.approx([rate * scale for rate, scale in zip(plain, scales, strict=True)])
    linear = factors(make_run(lr_scheduler="linear", warmup_steps=2), 12)
    found = factors(make_run(lr_scheduler="linear", **keys), 12)
    assert found[7] == pytest.approx(linear[7])
    assert found[5] == pytest.approx(linear[5] * 0.001)


def test_a_schedule_that_asks_for_the_loss_is_refused():
    expected = "jagged_restart_steps: needs a schedule that depends on the step alone. Use lr_scheduler: cosine."
    assert expected in complaints(jagged_restart_steps=100, lr_scheduler="reduce_lr_on_plateau")
