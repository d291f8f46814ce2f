"""Schedule-free optimizers: what is evaluated and saved is the average, and training does not notice."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.test_optimizers import need, trainer_of
from tests.training.tiny import same, trained

from newt.training.averaging import NAME, averaged
from newt.training.fit import fit

OPTIMIZER = "schedule_free_adamw"


@pytest.fixture(autouse=True)
def package() -> None:
    need(OPTIMIZER)


def average(trainer) -> dict[str, torch.Tensor]:
    """x from y and z: ``y = (1 - beta1) z + beta1 x``."""
    state = trainer.optimizer.state
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    return {
        names[id(p)]: (p.detach() - 0.1 * state[p]["z"]) / 0.9
        for group in trainer.optimizer.param_groups
        for p in group["params"]
    }


def test_the_block_holds_the_average_and_leaves_no_trace(model_dir, tmp_path):
    trainer, cfg = trainer_of(model_dir, tmp_path / "a", OPTIMIZER, max_steps=3)
    fit(trainer, cfg)
    trainer.optimizer.train()
    before, expected = trained(trainer), average(trainer)
    with averaged(trainer.optimizer, trainer.model) as point:
        assert same(point, before)
        inside = trained(trainer)
        assert all(torch.allclose(inside[name], expected[name], atol=1e-6) for name in expected)
        assert not same(inside, before)
    assert same(before, trained(trainer))
    assert all(group["train_mode"] for group in trainer.optimizer.param_groups)


def test_the_final_model_and_the_checkpoint_are_the_average(model_dir, tmp_path):
    trainer, cfg = trainer_of(model_dir, tmp_path / "a", OPTIMIZER, save_steps=3)
    fit(trainer, cfg)
    folder = tmp_path / "a" / "checkpoint-3"
    stored = load_file(folder / "model.safetensors")
    final = trained(trainer)
    assert all(torch.equal(final[name], stored[name]) for name in stored)
    point = load_file(folder / NAME)
    assert not all(torch.equal(final[name], point[name]) for name in stored)
    assert not any(group["train_mode"] for group in trainer.optimizer.param_groups)


@pytest.mark.parametrize("name", ["schedule_free_adamw", "schedule_free_sgd", "schedule_free_radam"])
def test_evaluations_and_checkpoints_do_not_change_training(model_dir, tmp_path, name):
    runs = []
    for folder, keys in (("a", {"save_steps": 100}), ("b", {"save_steps": 1, "eval_steps": 1, "val_set_size": 2})):
        trainer, cfg = trainer_of(model_dir, tmp_path / folder, name, max_steps=3, save_strategy="steps", **keys)
        fit(trainer, cfg)
        runs.append(trained(trainer))
    assert same(*runs)


def test_the_best_checkpoint_stays_the_average(model_dir, tmp_path):
    trainer, cfg = trainer_of(
        model_dir, tmp_path / "a", OPTIMIZER, max_steps=3, save_steps=1, eval_steps=1, val_set_size=2,
        load_best_model_at_end=True, metric_for_best_model="eval_loss",
    )  # fmt: skip
    fit(trainer, cfg)
    stored = load_file(Path(trainer.state.best_model_checkpoint) / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in trained(trainer).items() if name in stored)


def test_other_optimizers_are_left_alone():
    weight = torch.nn.Linear(2, 2)
    with averaged(torch.optim.SGD(weight.parameters(), lr=1.0), weight) as point:
        assert point == {}
