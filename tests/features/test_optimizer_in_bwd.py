"""Updates during the backward pass: the weights of a run without them, in the memory of one gradient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import complaints, make_run
from tests.training.test_optimizers import Small, keys_of, need, optimizer_of
from tests.training.tiny import Data, Rows, load, plans, same, trained

from newt.support.errors import NewtError
from newt.training.build import build_trainer
from newt.training.combined import Layerwise
from newt.training.fit import fit
from newt.training.optimizer_table import OPTIMIZERS

ON = {"optimizer_in_bwd": True, "gradient_accumulation_steps": 1, "max_grad_norm": 0}
EXACT = [
    name for name, entry in OPTIMIZERS.items()
    if entry.kind in ("plain", "matrices") and not (entry.whole or entry.needs_gpu or entry.instead)
]  # fmt: skip


@pytest.fixture(autouse=True)
def eager():
    with torch.compiler.set_stance("force_eager"):
        yield


def trainer_of(model_dir: Path, out: Path, name: str = "adamw_torch_fused", **keys: Any) -> tuple[Any, Any]:
    given = {
        "base_model": str(model_dir), "output_dir": str(out), "micro_batch_size": 2, "sequence_len": 48, "max_steps": 5,
        "save_steps": 3, "bf16": False, "warmup_steps": 2, "logging_steps": 1, "embedding_lr": 5e-3, **keys,
    }  # fmt: skip
    run = make_run(**{**keys_of(name), **ON, **given})
    assert not [problem for problem in run.problems() if problem.kind != "warning"]
    plan, (other, data_plan) = run.train_plan(), plans(run.cfg)
    plan.loss = other.loss
    return build_trainer(plan, data_plan, load(model_dir), Data(Rows(24), Rows(6, 5))), run.cfg


def norms(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["grad_norm"], line["learning_rate"], line["loss"]) for line in lines if "grad_norm" in line]


@pytest.mark.parametrize("name", ["adamw_torch_fused", "adamw_8bit", "adafactor", "muon", "lion_32bit"])
def test_a_run_ends_with_the_weights_of_one_without_it(model_dir, tmp_path, name):
    need(name)
    plain, cfg = trainer_of(model_dir, tmp_path / "plain", name, optimizer_in_bwd=False)
    before = trained(plain)
    fit(plain, cfg)
    inside, cfg = trainer_of(model_dir, tmp_path / "inside", name)
    fit(inside, cfg)
    assert not same(before, trained(plain))
    assert same(trained(plain), trained(inside))
    assert len(norms(tmp_path / "plain")) == 5
    # The norm, taken while the gradients pass, the learning rate and the loss are those of the plain run.
    assert norms(tmp_path / "plain") == norms(tmp_path / "inside")

    resumed, cfg = trainer_of(
        model_dir, tmp_path / "b", name, resume_from_checkpoint=str(tmp_path / "inside" / "checkpoint-3")
    )
    fit(resumed, cfg)
    assert same(trained(plain), trained(resumed))


@pytest.mark.parametrize("name", EXACT)
def test_every_allowed_optimizer_is_exact(name):
    need(name)
    one, other = Small(), Small()
    models = {one: optimizer_of(one, **keys_of(name)), other: optimizer_of(other, **keys_of(name, **ON))}
    for step in range(4):
        for model, optimizer in models.items():
            model(step).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert isinstance(models[other], Layerwise)
    assert not same(Small().state_dict(), one.state_dict())
    assert same(one.state_dict(), other.state_dict())


def test_only_one_gradient_is_held(model_dir, tmp_path):
    trainer, cfg = trainer_of(model_dir, tmp_path)
    seen: list[int] = []
    for parameter in trainer.model.parameters():
        # Called before the update, which is registered when the run begins.
        parameter.register_post_accumulate_grad_hook(
            lambda _: seen.append(sum(p.grad is not None for p in trainer.model.parameters()))
        )
    fit(trainer, cfg)
    assert len(seen) == 5 * len(list(trainer.model.parameters()))
    assert set(seen) == {1}
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_layers_change_nothing(model_dir, tmp_path, reentrant):
    found = []
    for on in (False, True):
        trainer, cfg = trainer_of(model_dir, tmp_path / str(on), optimizer_in_bwd=on, max_steps=2)
        trainer.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        fit(trainer, cfg)
        found.append(trained(trainer))
    assert same(*found)


def test_a_weight_that_gets_its_gradient_twice_stops_the_run():
    """Reentrant checkpoints run a backward pass each: a weight that two of them use would be updated too early."""
    from torch.utils.checkpoint import checkpoint

    model = Small()
    optimizer = optimizer_of(model, **keys_of("adamw_torch", **ON))
    hidden = torch.ones(2, 32, requires_grad=True)
    inner = model.up
    twice = checkpoint(inner, hidden, use_reentrant=True).sum() + checkpoint(inner, hidden, use_reentrant=True).sum()
    with pytest.raises(NewtError, match="got its gradient in several parts"):
        twice.backward()
    optimizer.step()
    checkpoint(inner, hidden, use_reentrant=True).sum().backward()


def test_shared_weights_are_updated_once():
    def model_and_step(keys: dict[str, Any]) -> dict[str, Any]:
        model = Small()
        optimizer = optimizer_of(model, **keys)
        for _ in range(3):
            hidden = model.up(model.down(model.up(model.embed_tokens(torch.arange(4)))))
            hidden.pow(2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return model.state_dict()

    assert same(model_and_step(keys_of("adamw_torch")), model_and_step(keys_of("adamw_torch", **ON)))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"lisa_n_layers": 1, "lisa_step_interval": 2}, None),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps: must be 1 with optimizer_in_bwd"),
        ({"gradient_accumulation_steps": None, "batch_size": 4}, "gradient_accumulation_steps: must be 1"),
        ({"max_grad_norm": None}, "max_grad_norm (default 1.0), which needs all of them at once. Set max_grad_norm: 0"),
        ({"max_grad_norm": 0.5}, "optimizer_in_bwd: gradients are clipped"),
        ({"adapter": "lora", "lora_target_linear": True}, "optimizer_in_bwd: saves nothing with adapter"),
        ({"fp16": True, "bf16": False}, "cannot be used with fp16: its scaler"),
        ({"fsdp_config": {"fsdp_version": 2}}, "optimizer_in_bwd: cannot be used with fsdp_config: it needs one"),
        ({"plugins": ["GrokfastPlugin"]}, "optimizer_in_bwd: cannot be used with Grokfast"),
        ({"optimizer": "lomo"}, "optimizer_in_bwd: has no effect: lomo updates weights"),
        ({"optimizer": "galore_adamw", "optim_target_modules": "all_linear"}, "Set optimizer: galore_adamw_layerwise."),
        ({"optimizer": "schedule_free_adamw", "lr_scheduler": "constant"}, "schedule_free_adamw: its average belongs"),
        ({"optimizer": "grokadamw"}, "optimizer_in_bwd: cannot be used with grokadamw"),
        ({"optimizer": "dion"}, "optimizer_in_bwd: cannot be used with dion: its first factors"),
        ({"optimizer": "adamw_torch_8bit", "optim_args": "bf16_stochastic_round=true"}, "with bf16_stochastic_round"),
    ],
)  # fmt: skip
def test_what_it_cannot_go_with_is_refused(keys, expected):
    found = [line for line in complaints(**{**ON, **keys}) if "optimizer_in_bwd" in line]
    assert (not found) if expected is None else expected in found[0]


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert any("optimizer_in_bwd: needs one process" in line for line in complaints(**ON))


def test_a_norm_of_0_means_no_clipping(model_dir, tmp_path):
    trainer, _ = trainer_of(model_dir, tmp_path, optimizer_in_bwd=False)
    assert trainer.args.max_grad_norm == 0
