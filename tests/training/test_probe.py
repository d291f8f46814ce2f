"""The probe of the largest micro-batch."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from tiny import Data, Rows
from transformers import TrainerCallback

from newt.data.pack import best_fit_decreasing
from newt.support.errors import NewtError
from newt.training import probe as module
from newt.training.batches import BatchSampler
from newt.training.probe import probe, widest


class Drawing(TrainerCallback):
    """Draws a number of each generator after every step; what it drew is part of what is compared."""

    def __init__(self) -> None:
        self.drawn: list[tuple[float, float, float]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))


def run_of(model_dir: Path, out: Path, probed: bool, monkeypatch: pytest.MonkeyPatch, **keys: Any) -> Any:
    """A run with or without probes; ``found`` are their tokens."""
    drawing = Drawing()
    trainer, cfg = tiny.make(model_dir, out, callbacks=[lambda: drawing], save_steps=2, **keys)
    trainer.found, trainer.drawn = [], drawing.drawn
    monkeypatch.setattr(module, "worthwhile", lambda trainer, steps: probed)
    monkeypatch.setattr(module, "probe", lambda trainer: trainer.found.append(probe(trainer)))
    tiny.fit(trainer, cfg)
    return trainer


def state(trainer: Any) -> dict[str, torch.Tensor]:
    """Everything of the optimizer that is a tensor."""
    stored = trainer.optimizer.state_dict()["state"]
    return {f"{n} {name}": v for n, one in stored.items() for name, v in one.items() if isinstance(v, torch.Tensor)}


def lines(out: Path) -> list[dict[str, float]]:
    measured = ("per_second", "memory_gib", "mfu", "runtime")
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in line.items() if not k.endswith(measured)} for line in found if "train_runtime" not in line
    ]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
def test_a_probed_run_is_the_same_run(model_dir: Path, tmp_path: Path, lora: bool, packed: bool, monkeypatch) -> None:
    plain, probed = (
        run_of(
            model_dir,
            tmp_path / str(flag),
            flag,
            monkeypatch,
            lora=lora,
            packed=packed,
            data=Data(Rows(26), Rows(6, 5)),
        )
        for flag in (False, True)
    )
    assert (len(plain.found), len(probed.found)) == (0, 2)
    assert min(probed.found) > 0
    assert tiny.same(tiny.trained(plain), tiny.trained(probed))
    assert tiny.same(state(plain), state(probed))
    assert plain.drawn == probed.drawn
    assert lines(tmp_path / "False") == lines(tmp_path / "True")


def test_a_resumed_run_is_probed_once(model_dir: Path, tmp_path: Path, monkeypatch) -> None:
    """Its optimizer's state is there from the beginning."""
    plain = run_of(model_dir, tmp_path / "a", False, monkeypatch)
    checkpoint = str(tmp_path / "a" / "checkpoint-2")
    resumed = run_of(model_dir, tmp_path / "b", True, monkeypatch, resume_from_checkpoint=checkpoint)
    assert len(resumed.found) == 1
    assert tiny.same(tiny.trained(plain), tiny.trained(resumed))


@pytest.mark.parametrize("on", [False, True], ids=["optimizer.step", "optimizer_in_bwd"])
def test_no_weight_moves(model_dir: Path, tmp_path: Path, on: bool) -> None:
    from newt.training.combined import Layerwise

    trainer = tiny.make(model_dir, tmp_path)[0]
    model = trainer.model.train()
    groups = [{"params": list(model.parameters())}]
    trainer.optimizer = Layerwise(groups, torch.optim.AdamW) if on else torch.optim.AdamW(groups)
    before = tiny.trained(trainer)
    assert probe(trainer) > 0
    assert tiny.same(before, tiny.trained(trainer))
    assert not trainer.optimizer.state
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    if on:
        trainer.setup.loss(
            model, {"input_ids": torch.ones(1, 8).long(), "labels": torch.ones(1, 8).long()}, 1
        ).backward()
        assert not tiny.same(before, tiny.trained(trainer))


@pytest.mark.parametrize("packer", [None, lambda lengths, seed: best_fit_decreasing(lengths, 48, seed)])
@pytest.mark.parametrize("micro", [1, 3])
def test_the_widest_batch_is_found(packer: Any, micro: int) -> None:
    rows = tiny.Rows(20)
    sampler = BatchSampler(rows.lengths, micro, seed=1, packer=packer)
    tokens = [[sum(rows.lengths[row] for row in pick.rows) for pick in batch] for batch in sampler]
    assert tokens == [sampler.sample_lengths[n * micro : (n + 1) * micro].tolist() for n in range(len(sampler))]
    sizes = [max(batch) * len(batch) for batch in tokens]
    assert sizes[widest(sampler)] == max(sizes)
    sums = [sum(batch) for batch in tokens]
    assert sums[widest(sampler, one_row=True)] == max(sums)


def test_a_short_run_on_a_cpu_is_not_probed(model_dir: Path, tmp_path: Path) -> None:
    trainer = tiny.make(model_dir, tmp_path, gradient_accumulation_steps=4)[0]
    assert not module.worthwhile(trainer, 249)
    assert module.worthwhile(trainer, 250)
    assert module.worthwhile(tiny.make(model_dir, tmp_path, auto_find_batch_size=True)[0], 1)


def test_memory_that_does_not_suffice_is_one_line_and_leaves_nothing(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = tiny.make(model_dir, tmp_path)[0]

    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(type(trainer.setup), "loss", full)
    with pytest.raises(
        NewtError, match=r"largest micro-batch \(2 x \d+ tokens\) does not fit .* Set micro_batch_size: 1 and "
    ):
        probe(trainer)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_an_optimizer_that_steps_in_the_backward_pass_is_not_probed(model_dir: Path, tmp_path: Path) -> None:
    trainer = tiny.make(model_dir, tmp_path)[0]
    next(trainer.model.parameters()).register_post_accumulate_grad_hook(lambda parameter: None)
    assert module.probe(trainer) == 0
