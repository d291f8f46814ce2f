"""The loss watchdog and garbage collection, in a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.training.tiny import Data, Rows, run, trained

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


@pytest.mark.parametrize("steps", [2, -1])
def test_when_garbage_is_collected(model_dir: Path, out: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    calls = []
    monkeypatch.setattr(garbage, "collect", lambda: calls.append(1))
    data = Data(Rows(12))
    run(model_dir, out, data=data, packed=False, num_epochs=2, callbacks=[lambda: Garbage(steps)], save_strategy="no")
    per_epoch = 12 // (2 * 2)
    by_step = 2 * per_epoch // steps if steps > 0 else 0
    assert len(calls) == by_step + 2


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
