"""Jagged restarts of a schedule."""

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR

from newt.training.restarts import JaggedRestarts, restart_scale


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1), (96, 1), (97, 1), (98, 2 / 3), (99, 1 / 3), (100, 0), (105, 0.5), (109, 0.9), (110, 1), (197, 1),
     (198, 2 / 3), (199, 1 / 3), (200, 0), (201, 0.1)],
)  # fmt: skip
def test_the_formula(step, expected):
    """Period 100, rise 10, fall 3; at a restart the factor is the smallest one."""
    assert restart_scale(step, 100, 10, 3, 0.0) == pytest.approx(expected)
    assert restart_scale(step, 100, 10, 3, 0.2) == pytest.approx(0.2 + 0.8 * expected)


def test_no_rise_and_the_default_fall_leave_the_other_steps_alone():
    assert [restart_scale(step, 4, 0, 1, 0.0) for step in range(10)] == [1.0] * 10


def rates(make, steps, resume_at=None):
    """Learning rates of two groups; at ``resume_at`` everything is made anew from stored states."""
    optimizer, schedule = make()
    found = []
    for step in range(steps):
        if step == resume_at:
            stored = optimizer.state_dict(), schedule.state_dict()
            optimizer, schedule = make()
            optimizer.load_state_dict(stored[0])
            schedule.load_state_dict(stored[1])
        found.append([group["lr"] for group in optimizer.param_groups])
        assert schedule.get_last_lr() == found[-1]
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    "inner",
    [lambda o: LambdaLR(o, lambda step: 1 / (step + 1)), lambda o: ExponentialLR(o, 0.9)],
    ids=["from the step", "from the rate before"],
)
def test_groups_keep_their_ratio_and_a_resume_goes_on(inner):
    def plain():
        weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
        optimizer = torch.optim.SGD([{"params": [w], "lr": lr} for w, lr in zip(weights, (1.0, 4.0), strict=True)])
        return optimizer, inner(optimizer)

    def jagged():
        optimizer, schedule = plain()
        return optimizer, JaggedRestarts(schedule, period=5, warmup=2, anneal=2, minimum=0.1)

    scales = [restart_scale(step, 5, 2, 2, 0.1) for step in range(14)]
    expected = [[rate * scale for rate in line] for line, scale in zip(rates(plain, 14), scales, strict=True)]
    found = rates(jagged, 14)
    assert found == [pytest.approx(line) for line in expected]
    assert rates(jagged, 14, resume_at=7) == found
    assert set(jagged()[1].state_dict()) == {"last_epoch", "inner"}
