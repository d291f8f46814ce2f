"""The loss watchdog and garbage collection, in a run."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.training.tiny import Data, Rows, run, same, trained
from transformers import TrainerCallback

from newt.training.callbacks import garbage
from newt.training.callbacks.garbage import Garbage
from newt.training.callbacks.watchdog import LossWatchdog


@pytest.mark.parametrize(
    ("losses", "stopped"),
    [([9, 9, 9], True), ([9, 9, 1, 9, 9], False), ([5, 5, 5], False), ([9, None, 9, None, 9], True)],
)
def test_only_log_lines_in_a_row_stop(losses: list[float | None], stopped: bool) -> None:
    watchdog, control = LossWatchdog(5.0, 3), SimpleNamespace(should_training_stop=False)
    for loss in losses:
        watchdog.on_log(None, SimpleNamespace(global_step=1), control, {} if loss is None else {"loss": loss})
    assert control.should_training_stop is stopped


def test_a_run_with_a_high_loss_stops(model_dir: Path, out: Path) -> None:
    _, trainer = run(model_dir, out, data=Data(Rows(40)), logging_steps=1, callbacks=[lambda: LossWatchdog(0.1, 2)])
    assert trainer.state.global_step == 2


class Events(TrainerCallback):
    """Notes the events of a run in a list."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append("train")

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(f"step {state.global_step}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(f"done {state.global_step}")

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(f"evaluated {state.global_step}")

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(f"saved {state.global_step}")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(f"epoch {state.global_step}")


@pytest.mark.parametrize(
    ("steps", "by_step"),
    [(4, ["done 4"]), (1, ["done 1", "done 3", "done 4", "done 5", "done 6"]), (-1, [])],
)
def test_when_garbage_is_collected(
    model_dir: Path, out: Path, monkeypatch: pytest.MonkeyPatch, steps: int, by_step: list[str]
) -> None:
    """Two epochs of four steps; evaluations before the first and after steps 2 and so on, a checkpoint at step 7."""
    seen: list[str] = []
    monkeypatch.setattr(garbage, "collect", lambda: seen.append("collect"))
    data = Data(Rows(16), Rows(2))
    cadence = {"num_epochs": 2, "eval_steps": 2, "save_steps": 7, "max_steps": 7}
    run(model_dir, out, data=data, packed=False, callbacks=[lambda: Events(seen), lambda: Garbage(steps)], **cadence)
    after = [event for event, following in pairwise(seen) if following == "collect"]
    always = ["train", "step 0", "done 2", "step 2", "done 4", "epoch 4", "step 4", "done 6", "step 6", "done 7"]
    assert seen.count("collect") == len(after)
    assert sorted(set(after)) == sorted({*always, *by_step, "epoch 7"})
    assert len(after) == len(set(after)), "once at each place"
    for number in (2, 4, 6):
        assert seen.index(f"done {number}") + 1 < seen.index(f"evaluated {number}"), "collected before it"


def test_collecting_changes_no_weight(model_dir: Path, tmp_path: Path) -> None:
    data = Data(Rows(8), Rows(2))
    plain = run(model_dir, tmp_path / "plain", data=data, max_steps=2)[1]
    collected = run(model_dir, tmp_path / "out", data=data, max_steps=2, callbacks=[lambda: Garbage(-1)])[1]
    assert same(trained(plain), trained(collected))


def test_noise_changes_training_and_only_training(model_dir: Path, tmp_path: Path) -> None:
    runs = {
        alpha: run(
            model_dir,
            tmp_path / str(alpha),
            data=Data(Rows(8)),
            max_steps=2,
            dropout=0.0,
            args={"neftune_noise_alpha": alpha},
        )[1]
        for alpha in (None, 5.0)
    }
    plain, noisy = (trained(runs[alpha]) for alpha in (None, 5.0))
    assert not all(torch.equal(plain[name], noisy[name]) for name in plain)
    ids = torch.arange(3, 9)[None]
    model = runs[5.0].model
    model.train()
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits), "the noise is gone"
