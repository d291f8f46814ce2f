"""The log file, the terminal, and the stop at a loss that is not a number."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.training.tiny import Data, Rows, config, load, make, plans, run

from newt.losses.causal import causal_loss
from newt.support.errors import NewtError
from newt.training.build import build_trainer
from newt.training.callbacks.metrics import Metrics
from newt.training.callbacks.progress import ShowProgress, describe
from newt.training.fit import fit


def test_metrics_of_a_run(model_dir: Path, out: Path) -> None:
    data = Data(Rows(16), Rows(4))
    run(model_dir, out, data=data, packed=False, logging_steps=1)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    training = [line for line in lines if "loss" in line]
    assert [line["step"] for line in training] == [1, 2, 3, 4]
    assert set(training[0]) == {"step", "loss", "grad_norm", "learning_rate", "epoch", "tokens", "trained_tokens",
                                "tokens_per_second", "trained_tokens_per_second", "mfu", "memory_gib"}  # fmt: skip
    assert training[-1]["tokens"] == data.train.lengths.sum()
    assert training[-1]["trained_tokens"] == sum(len(ids) - max(1, len(ids) // 3) for ids in data.train.ids)
    assert [line["step"] for line in lines if "eval_loss" in line] == [0, 4]
    assert "train_runtime" in lines[-1]


def begin(metrics: Metrics, step: int) -> None:
    metrics.on_train_begin(None, SimpleNamespace(is_world_process_zero=True, global_step=step), None)


def test_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    kept = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.9}]
    lines = [*kept, {"step": 2, "train_runtime": 1}, {"step": 3, "loss": 0.8}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 2, "lo')
    metrics = Metrics(tmp_path)
    begin(metrics, 2)
    metrics.on_log(None, SimpleNamespace(global_step=3), None, {"loss": float("nan"), "total_flos": 5})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [*kept, {"step": 3, "loss": None}]
    metrics.on_train_end(None, None, None)
    begin(metrics, 0)
    assert path.read_text() == ""


def test_plain_lines_without_a_terminal() -> None:
    written = io.StringIO()
    show = ShowProgress(Console(file=written, width=40))
    state = SimpleNamespace(is_world_process_zero=True, global_step=3, max_steps=9)
    show.on_train_begin(None, state, None)
    logs = {"loss": 1.25, "learning_rate": 2e-4, "grad_norm": 0.5, "tokens_per_second": 12345.6, "epoch": 0.333}
    show.on_log(None, state, None, logs)
    show.on_log(None, state, None, {"eval_loss": 1.1, "eval_tokens": 1234, "eval_runtime": 2.0})
    show.on_log(None, state, None, {"train_runtime": 3})
    assert written.getvalue().splitlines() == [
        "step 3/9  loss 1.2500  lr 2.00e-04  grad norm 0.500  12,346 tokens/s  epoch 0.33",
        "step 3/9  eval loss 1.1000  1,234 tokens  2.0 s",
    ]


def test_a_bar_on_a_terminal() -> None:
    written = io.StringIO()
    show = ShowProgress(Console(file=written, width=100, force_terminal=True))
    state = SimpleNamespace(is_world_process_zero=True, global_step=3, max_steps=9)
    show.on_train_begin(None, state, None)
    show.on_log(None, state, None, {"loss": 1.25})
    show.on_step_end(None, state, None)
    show.on_log(None, state, None, {"eval_loss": 1.1})
    show.on_train_end(None, state, None)
    assert "3/9" in written.getvalue()
    assert "loss 1.2500" in written.getvalue()
    assert "eval loss 1.1000" in written.getvalue()


def test_describe_leaves_out_what_is_missing() -> None:
    assert describe({"loss": 2.0}) == "loss 2.0000"
    assert describe({"train_runtime": 2.0}) == ""


def diverging(model_dir: Path, out: Path, step: int, value: float, **settings: Any) -> Any:
    """A trainer whose loss is ``value`` in one step."""
    plan, data_plan = plans(config(out, **settings), packed=False)
    calls = []

    def loss(model: Any, batch: Any, num_items: Any) -> torch.Tensor:
        calls.append(1)
        found = causal_loss(model, batch, num_items)
        return found * value if len(calls) == 2 * step else found

    plan.loss = type(plan.loss)("loss")
    plan.loss.fill(loss, by="test")
    return build_trainer(plan, data_plan, load(model_dir), Data(Rows(24))), plan.cfg


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_a_number_stops_the_run(model_dir: Path, out: Path, value: float) -> None:
    trainer, cfg = diverging(model_dir, out, 4, value, logging_steps=1, save_steps=2)
    with pytest.raises(NewtError, match=rf"loss became {value} at step 4\. .*checkpoint-2"):
        fit(trainer, cfg)
    record = json.loads((out / "run.json").read_text())
    assert "at step 4" in record["result"]["error"]
    assert record["ended"]


def test_such_weights_are_not_saved_between_two_log_lines(model_dir: Path, out: Path) -> None:
    trainer, cfg = diverging(model_dir, out, 3, float("nan"), logging_steps=5, save_steps=2)
    with pytest.raises(NewtError, match=r"loss became nan .*step.* 4.*checkpoint-2"):
        fit(trainer, cfg)
    assert [path.name for path in sorted(out.glob("checkpoint-*"))] == ["checkpoint-2"]


def test_the_error_names_all_steps_since_the_last_log(model_dir: Path, out: Path) -> None:
    trainer, cfg = diverging(model_dir, out, 3, float("nan"), logging_steps=5, save_strategy="no")
    with pytest.raises(NewtError, match=r"between steps 1 and 5\. .*There is no checkpoint"):
        fit(trainer, cfg)


def test_run_without_evaluation_rows(model_dir: Path, out: Path) -> None:
    trainer, cfg = make(model_dir, out, data=Data(Rows(8)), packed=False)
    outcome = fit(trainer, cfg)
    assert outcome.metrics == outcome.before == {}
    assert outcome.train_loss
