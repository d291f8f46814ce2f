"""What is relied on in transformers, and what the plan changes."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.training.tiny import Data, Rows, config, load, make, plans, run, trained
from transformers import Trainer, TrainingArguments

from newt.support.errors import NewtError
from newt.training.arguments import in_this_version, training_arguments
from newt.training.build import build_trainer
from newt.training.cadence import Steps
from newt.training.fit import fit
from newt.training.trainer import PRIVATE

FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}
CHECKPOINTING = "activation_checkpointing" if "activation_checkpointing" in FIELDS else "gradient_checkpointing"
SPLITS = [(1, 8, False), (3, 3, False), (4, 2, False), (9, 1, True), (1, 9, True)]


@pytest.mark.parametrize("name", list(PRIVATE))
def test_private_methods_of_the_trainer_are_as_expected(name: str) -> None:
    method = inspect.signature(getattr(Trainer, name))
    assert tuple(method.parameters)[1:] == PRIVATE[name]


def test_the_loop_calls_what_is_replaced() -> None:
    source = inspect.getsource(transformers.trainer.Trainer)
    for call in (
        "self.get_batch_samples(epoch_iterator, num_batches, self.args.device)",
        "self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)",
        "self._save_checkpoint(model, trial)",
        "self._load_from_checkpoint(resume_from_checkpoint)",
        "self._load_rng_state(resume_from_checkpoint)",
        "self.callback_handler.on_epoch_begin(self.args, self.state, self.control)",
        "epochs_trained=epochs_trained,",
        "num_update_steps_per_epoch=num_update_steps_per_epoch,",
        "if self.control.should_training_stop:\n                break\n\n        return self._finalize_training(",
    ):
        assert call in source, call


def test_arguments(tmp_path: Path) -> None:
    cfg = config(tmp_path, micro_batch_size=3, gradient_accumulation_steps=2, eval_batch_size=5, seed=9, num_epochs=2)
    plan, _ = plans(cfg, learning_rate=0.5, gradient_checkpointing=True, bf16=True)
    args = training_arguments(plan, Steps(10, 2, 2), has_eval=True)
    expected = {
        "per_device_train_batch_size": 3,
        "per_device_eval_batch_size": 5,
        "gradient_accumulation_steps": 2,
        "learning_rate": 0.5,
        "bf16": True,
        "seed": 9,
        "num_train_epochs": 2,
        "max_steps": -1,
        "max_grad_norm": 1.0,
        "report_to": [],
        "remove_unused_columns": False,
        "eval_on_start": True,
        "dataloader_num_workers": torch.cuda.device_count(),
        "logging_nan_inf_filter": False,
    }
    assert {name: getattr(args, name) for name in expected} == expected
    assert getattr(args, CHECKPOINTING)


def test_renamed_arguments_use_the_newest_name_there_is() -> None:
    found = in_this_version({"gradient_checkpointing": True, "seed": 1})
    assert set(found) <= FIELDS
    assert set(found) == {"seed", CHECKPOINTING}


def one_step(
    model_dir: Path, out: Path, micro: int, accumulation: int, packed: bool, **options: Any
) -> tuple[dict[str, Any], Any]:
    trainer, cfg = make(
        model_dir,
        out,
        data=Data(Rows(8)),
        packed=packed,
        micro_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        dropout=0.0,
        max_steps=1,
        save_strategy="no",
        args={"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0},
        **options,
    )
    torch.manual_seed(0)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:  # as in the middle of a run: both halves have a gradient
            torch.nn.init.normal_(parameter, std=0.1)
    outcome = fit(trainer, cfg)
    return {**trainer.state.log_history[0], "steps": outcome.global_step}, trainer


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_any_split_of_a_step_gives_the_same_loss_norm_and_gradients(
    model_dir: Path, tmp_path: Path, lora: bool
) -> None:
    """One step of SGD with a rate of 1: weights that differ by 1e-5 are gradients that do."""
    expected, whole = one_step(model_dir, tmp_path / "a", 8, 1, packed=False, lora=lora)
    before = trained(make(model_dir, tmp_path / "c", lora=lora)[0])
    moved = {name: float((weight - before[name]).abs().max()) for name, weight in trained(whole).items()}
    assert min(moved[name] for name in moved if "lora_B" not in name) > 1e-4, "every gradient is seen"
    for number, (micro, accumulation, packed) in enumerate(SPLITS):
        found, trainer = one_step(model_dir, tmp_path / f"b{number}", micro, accumulation, packed, lora=lora)
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], abs=1e-4)
        assert (found["tokens"], found["trained_tokens"]) == (expected["tokens"], expected["trained_tokens"])
        for name, weight in trained(whole).items():
            torch.testing.assert_close(trained(trainer)[name], weight, atol=1e-5, rtol=1e-5)


def test_loss_is_that_of_plain_transformers(model_dir: Path, tmp_path: Path) -> None:
    """The same rows through the library's own trainer and collator."""
    found, _ = one_step(model_dir, tmp_path / "a", 8, 1, packed=False)
    rows = Rows(8)
    longest = int(rows.lengths.max())

    def pad(samples: Any) -> dict[str, torch.Tensor]:
        def column(name: str, fill: int) -> torch.Tensor:
            return torch.tensor([[*map(int, s[name]), *[fill] * (longest - len(s[name]))] for s in samples])

        mask = torch.tensor([[1] * len(s["labels"]) + [0] * (longest - len(s["labels"])) for s in samples])
        return {"input_ids": column("input_ids", 0), "labels": column("labels", -100), "attention_mask": mask}

    args = TrainingArguments(
        str(tmp_path / "b"),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        max_steps=1,
        logging_steps=1,
        optim="sgd",
        learning_rate=0.1,
        report_to="none",
        remove_unused_columns=False,
        save_strategy="no",
        use_cpu=True,
    )
    theirs = Trainer(model=load(model_dir, dropout=0.0).model, args=args, train_dataset=rows, data_collator=pad)
    theirs.train()
    assert found["loss"] == pytest.approx(theirs.state.log_history[0]["loss"], abs=1e-4)
    assert found["grad_norm"] == pytest.approx(theirs.state.log_history[0]["grad_norm"], abs=1e-4)


def test_plan_chooses_optimizer_and_schedule(model_dir: Path, out: Path) -> None:
    plan, data_plan = plans(config(out, num_epochs=2), packed=False)
    plan.optimizer.fill(lambda model: torch.optim.SGD(model.parameters(), lr=0.5), by="test")
    steps = []

    def schedule(optimizer: Any, total: int) -> Any:
        steps.append(total)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    plan.schedule.fill(schedule, by="test")
    trainer = build_trainer(plan, data_plan, load(model_dir), Data(Rows(16)))
    trainer.train()
    assert steps == [8]
    rates = [line["learning_rate"] for line in trainer.state.log_history if "loss" in line]
    assert rates == pytest.approx([0.5 / (1 + step) for step in range(8)])
    assert isinstance(trainer.optimizer.optimizer, torch.optim.SGD)


def test_no_whole_batch(model_dir: Path, out: Path) -> None:
    with pytest.raises(NewtError, match="not one whole batch of 9 samples"):
        make(model_dir, out, data=Data(Rows(8)), packed=False, micro_batch_size=9, dataloader_drop_last=True)


def test_gradient_checkpointing_and_bf16_train(model_dir: Path, out: Path) -> None:
    args = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}, "bf16": True}
    outcome, _ = run(model_dir, out, data=Data(Rows(8), Rows(3)), args=args)
    assert 5 < outcome.train_loss < 8
    assert 5 < outcome.metrics["eval_loss"] < 8


def test_each_epoch_sees_every_row_once_in_a_new_order(model_dir: Path, out: Path) -> None:
    class Watched(Rows):
        seen: list[int] = []

        def __getitem__(self, index: int) -> Any:
            self.seen.append(index)
            return super().__getitem__(index)

    data = Data(Watched(12))
    run(model_dir, out, data=data, packed=False, num_epochs=3, save_strategy="no")
    epochs = [data.train.seen[begin : begin + 12] for begin in (0, 12, 24)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
