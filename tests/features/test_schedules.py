"""The curves of the learning rate."""

import math

import pytest
from tests.helpers import complaints, make_config, make_run, messages

from newt.features.schedules import Schedules
from newt.training.schedules import ARGUMENTS, MEASURED, min_lr_cosine


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
        ({"warmup_steps": 1}, 10, 2),
        ({"warmup_steps": 0}, 10, 0),
        ({}, 50, 2),
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


def falling(p):
    return 0.5 * (1 + math.cos(math.pi * p))


def warmup_stable_decay(p):
    """16 steps after the warmup: 10 at the peak, 6 down to a tenth by the root."""
    return 1.0 if p < 10 / 16 else 0.1 + 0.9 * (1 - math.sqrt((p - 10 / 16) * 16 / 6))


AFTER_WARMUP = {
    "constant": ({}, lambda p: 1.0),
    "constant_with_warmup": ({}, lambda p: 1.0),
    "linear": ({}, lambda p: 1 - p),
    "cosine": ({}, falling),
    "cosine_with_restarts": ({"num_cycles": 3}, lambda p: falling(3 * p % 1)),
    "cosine_with_min_lr": ({"min_lr_rate": 0.1}, lambda p: 0.1 + 0.9 * falling(p)),
    "cosine_warmup_with_min_lr": ({"min_lr_rate": 0.1}, lambda p: 0.1 + 0.9 * falling(p + 1 / 16)),
    "polynomial": ({"power": 2, "lr_end": 0.01}, lambda p: 0.01 + 0.99 * (1 - p) ** 2),
    "inverse_sqrt": ({"timescale": 9}, lambda p: math.sqrt(9 / (9 + 16 * p))),
    "warmup_stable_decay": ({"num_decay_steps": 6, "decay_type": "1-sqrt", "min_lr_ratio": 0.1}, warmup_stable_decay),
    "rex": ({}, lambda p: (1 - p) / (0.1 + 0.9 * (1 - p))),
}
"""Schedule -> its arguments, and its factor at the share p of the steps after the warmup."""

WARMUPS = {
    "constant": lambda w: 1.0,
    "cosine_warmup_with_min_lr": lambda w: w + 1 / 4,
    "warmup_stable_decay": lambda w: 0.1 + 0.9 * w,
}
"""Factor at the share w of the warmup, where it is not w."""


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {*MEASURED, "one_cycle"}))
def test_every_schedule_follows_its_formula_at_every_step(name):
    """20 steps, 4 of them warmup. One cycle is compared with that of torch elsewhere."""
    kwargs, after = AFTER_WARMUP[name]
    before = WARMUPS.get(name, lambda w: w)
    expected = [before(step / 4) if step < 4 else after((step - 4) / 16) for step in range(20)]
    assert curve(20, lr_scheduler=name, warmup_steps=4, lr_scheduler_kwargs=kwargs) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"lr_scheduler": "cosin"}, "unknown schedule 'cosin'. Did you mean cosine?"),
        (
            {"lr_scheduler": "greedy"},
            "greedy follows evaluations, and there are none. Set val_set_size and",
        ),
        (
            {"lr_scheduler": "greedy", "val_set_size": 0.1, "eval_strategy": "no"},
            "greedy follows evaluations, and there",
        ),
        ({"lr_scheduler_kwargs": {"num_cycle": 2}}, "cosine has no argument 'num_cycle'. Valid: num_cycles."),
        (
            {"lr_scheduler": "linear", "lr_scheduler_kwargs": {"power": 2}},
            "linear has no argument 'power'. It has none.",
        ),
        ({"lr_scheduler": "polynomial", "lr_scheduler_kwargs": {"power": "x"}}, "power must be a number, not 'x'."),
        (
            {"lr_scheduler": "inverse_sqrt", "lr_scheduler_kwargs": {"timescale": 0.5}},
            "must be a whole number, not 0.5",
        ),
        ({"lr_scheduler": "cosine_with_min_lr"}, "cosine_with_min_lr needs min_lr or min_lr_rate."),
        ({"lr_scheduler": "warmup_stable_decay"}, "warmup_stable_decay needs num_decay_steps."),
        (
            {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6, "min_lr_rate": 0.1}},
            "min_lr and min_lr_rate say the same.",
        ),
        (
            {"lr_scheduler": "one_cycle", "lr_div_factor": 10, "lr_scheduler_kwargs": {"div_factor": 10}},
            "sets div_factor, and so does lr_div_factor.",
        ),
        ({"cosine_min_lr_ratio": 0.1, "lr_scheduler_kwargs": {"num_cycles": 2}}, "cosine has no argument 'num_cycles'"),
        ({"lr_scheduler": "rex", "warmup_steps": 20, "max_steps": 10}, "20 steps of warm-up are more than the 10"),
        ({"warmup_steps": 1, "warmup_ratio": 0.1}, "warmup_ratio: cannot be used with warmup_steps."),
        ({"lr_scheduler": "linear", "cosine_min_lr_ratio": 0.1}, "has no effect: lr_scheduler is linear."),
        ({"lr_scheduler": "linear", "lr_quadratic_warmup": True}, "lr_quadratic_warmup: has no effect"),
        ({"lr_div_factor": 10}, "lr_div_factor: has no effect: lr_scheduler is cosine."),
        ({"lr_quadratic_warmup": True, "cosine_min_lr_ratio": 0.1}, "has no effect: lr_quadratic_warmup ends at 0."),
        ({"lr_scheduler": "constant", "warmup_steps": 5}, "warmup_steps: has no effect: lr_scheduler constant has no"),
        (
            {"lr_scheduler": "polynomial", "learning_rate": 1e-8},
            "lr_end must be below learning_rate: 1e-07 is not below",
        ),
        (
            {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": "1e-2"}},
            "lr_scheduler_kwargs: min_lr must be below learning_rate: 0.01 is not below 0.001. Lower min_lr.",
        ),
        (
            {"lr_scheduler": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 9, "decay_type": "x"}},
            "decay_type must be linear or cosine or 1-sqrt, not 'x'.",
        ),
        (
            {"lr_scheduler": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 9}, "max_steps": 8},
            "0 steps of warm-up and 9 of decay are more than the 8 of the run.",
        ),
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
        {"lr_scheduler": "polynomial", "lr_scheduler_kwargs": {"lr_end": "1e-7", "power": 2}},
        {"lr_scheduler": "reduce_lr_on_plateau", "val_set_size": 0.1, "lr_scheduler_kwargs": {"patience": 2}},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_rex_ends_at_the_least_rate():
    values = curve(20, lr_scheduler="rex", warmup_steps=4, cosine_min_lr_ratio=0.2)
    expected = [s / 4 if s < 4 else 0.2 + 0.8 * (z := 1 - (s - 4) / 16) / (0.1 + 0.9 * z) for s in range(20)]
    assert values == pytest.approx(expected)


def test_quadratic_warmup_wins_over_the_least_rate():
    values = curve(20, warmup_steps=4, lr_quadratic_warmup=True, cosine_min_lr_ratio=0.5)
    expected = [(s / 4) ** 2 if s < 4 else 0.5 * (1 + math.cos(math.pi * (s - 4) / 16)) for s in range(20)]
    assert values == pytest.approx(expected)


def test_one_cycle_begins_at_the_peak_divided():
    values = curve(20, lr_scheduler="one_cycle", warmup_steps=8, lr_div_factor=10)
    assert values[0] == pytest.approx(0.1)
    assert max(values) == pytest.approx(values[7])
    assert curve(20, lr_scheduler="one_cycle", warmup_steps=8, lr_scheduler_kwargs={"div_factor": "10"}) == values


@pytest.mark.parametrize(
    "keys", [{"lr_scheduler": "rex"}, {"lr_scheduler": "one_cycle"}, {"lr_quadratic_warmup": True}]
)
def test_a_resumed_schedule_goes_on(keys):
    import torch

    def begin():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, make_run(warmup_steps=5, **keys).train_plan().schedule.get()(optimizer, 20)

    whole = curve(20, warmup_steps=5, **keys)
    optimizer, schedule = begin()
    for _ in range(9):
        optimizer.step()
        schedule.step()
    other, again = begin()
    other.load_state_dict(optimizer.state_dict())
    again.load_state_dict(schedule.state_dict())
    rest = []
    for _ in range(9, 20):
        rest.append(other.param_groups[0]["lr"])
        other.step()
        again.step()
    assert rest == whole[9:]


@pytest.mark.parametrize("name", MEASURED)
def test_schedules_that_follow_evaluations(name, model_dir, tmp_path):
    from tests.training.test_optimizers import trainer_of

    from newt.training.fit import fit

    more = {"patience": 0, "threshold": 100.0, "threshold_mode": "abs"}  # no evaluation is that much better
    keys = {"lr_scheduler": name, "lr_scheduler_kwargs": more, "val_set_size": 2, "eval_steps": 1}
    trainer, cfg = trainer_of(model_dir, tmp_path / "out", "adamw_torch", **keys)
    fit(trainer, cfg)
    # The first of three evaluations is an improvement, for which the greedy one raises the rate; the others are none.
    factors = {"reduce_lr_on_plateau": [1, 1, 0.1, 0.01], "greedy": [1, 1 / 0.95, 1, 0.95]}[name]
    rates = [line["learning_rate"] for line in trainer.state.log_history if "loss" in line]
    assert [*rates, trainer.optimizer.param_groups[0]["lr"]] == pytest.approx([1e-2 * factor for factor in factors])
