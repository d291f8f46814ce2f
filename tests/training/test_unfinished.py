"""A signal at a step whose evaluation is due: the run that goes on ends as one that was never stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.training.test_resume_exact import SendSignal, steady
from tests.training.tiny import Data, Rows, make, run, same, trained

from newt.training import checkpoints
from newt.training.callbacks.early_stopping import EarlyStopping
from newt.training.callbacks.watchdog import LossWatchdog
from newt.training.fit import fit

SCORES = {0: 9.0, 2: 5.0, 4: 3.0, 6: 4.0, 8: 6.0, 10: 7.0, 12: 8.0, 16: 9.0}
"""Step -> what is evaluated there; the least is the best."""

CADENCES = {
    "steps": {"eval_steps": 2, "save_steps": 2},
    "epoch": {"eval_strategy": "epoch", "save_strategy": "epoch"},
    "rare_saves": {"eval_steps": 2, "save_steps": 4},
    "best": {"eval_steps": 2, "save_strategy": "best"},
}


def score(trainer: Any) -> dict[str, float]:
    return {"score": SCORES[trainer.state.global_step]}


def options(cadence: str, patience: int = 9) -> dict[str, Any]:
    """A run of 12 steps, 4 an epoch."""
    return {
        **{"num_epochs": 3, "packed": False, "data": Data(Rows(16), Rows(2, 5)), "lora": True, "logging_steps": 1},
        **{"metric_for_best_model": "eval_score", "greater_is_better": False, "load_best_model_at_end": True},
        **{"evaluations": [score], **CADENCES[cadence]},
        "callbacks": [lambda: EarlyStopping(patience)],
    }


def stopped_at(step: int, model_dir: Path, out: Path, keys: dict[str, Any]) -> None:
    outcome, _ = run(model_dir, out, **{**keys, "callbacks": [*keys["callbacks"], lambda: SendSignal(step)]})
    assert (outcome.stopped_by, outcome.global_step) == ("SIGTERM", step)
    assert all(line["step"] != step for line in steady(out) if "eval_score" in line), "the signal did not wait for it"


@pytest.mark.parametrize("cadence", CADENCES)
def test_the_best_step_is_that_of_a_straight_run(
    model_dir: Path, tmp_path: Path, cadence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Step 4 is the best, and the one that is interrupted."""
    keys = options(cadence)
    _, straight = run(model_dir, tmp_path / "a", **keys)
    stopped_at(4, model_dir, tmp_path / "b", keys)
    outcome, resumed = run(model_dir, tmp_path / "b", resume_from_checkpoint=True, **keys)
    assert "evaluation of step 4" in capsys.readouterr().err
    assert outcome.global_step == straight.state.global_step
    assert straight.state.best_global_step == 4
    assert (resumed.state.best_global_step, resumed.state.best_metric) == (4, 3.0)
    assert Path(resumed.state.best_model_checkpoint).name == "checkpoint-4"
    assert same(trained(straight), trained(resumed)), "the best weights are loaded"
    assert steady(tmp_path / "a") == steady(tmp_path / "b")


@pytest.mark.parametrize("schedule", ["reduce_lr_on_plateau", "greedy"])
def test_a_schedule_that_follows_evaluations_misses_none(model_dir: Path, tmp_path: Path, schedule: str) -> None:
    """The rate follows the scores: it falls after each step that is worse than the best."""
    keys = {**options("steps"), "args": {"lr_scheduler_type": schedule, "lr_scheduler_kwargs": {"patience": 0}}}
    run(model_dir, tmp_path / "a", **keys)
    rates = [line["learning_rate"] for line in steady(tmp_path / "a") if "loss" in line]
    assert rates[-1] < rates[4], "it does follow them"
    stopped_at(6, model_dir, tmp_path / "b", keys)
    run(model_dir, tmp_path / "b", resume_from_checkpoint=True, **keys)
    assert steady(tmp_path / "a") == steady(tmp_path / "b")


def test_it_is_made_up_after_every_kill(model_dir: Path, tmp_path: Path) -> None:
    """Killed again before the next checkpoint: the evaluation is still due."""
    keys = options("rare_saves")
    out = tmp_path / "a"
    stopped_at(6, model_dir, out, keys)
    shutil.copytree(out, tmp_path / "b")
    for _ in range(2):
        run(model_dir, out, resume_from_checkpoint=True, **keys)
        lines = [line["step"] for line in steady(out) if "eval_score" in line]
        assert lines == [0, 2, 4, 6, 8, 10, 12]
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "b", out)


@pytest.mark.parametrize(
    ("cadence", "patience", "last", "at"),
    [("steps", 1, 6, 6), *(("rare_saves", 2, 8, at) for at in (4, 5, 6, 7)), ("steps", 2, 8, 6)],
)
def test_early_stopping_ends_at_the_same_step(
    model_dir: Path, tmp_path: Path, cadence: str, patience: int, last: int, at: int
) -> None:
    """Also where the evaluation that is made up is the one that ends the run, and where the count was at 1 already."""
    keys = options(cadence, patience)
    stopped_at(at, model_dir, tmp_path / "b", keys)
    outcome, resumed = run(model_dir, tmp_path / "b", resume_from_checkpoint=True, **keys)
    assert (outcome.global_step, outcome.stopped_by) == (last, None)
    assert resumed.state.best_global_step == 4
    lines = [line["step"] for line in steady(tmp_path / "b") if "loss" in line]
    assert lines == list(range(1, last + 1))


def test_a_run_that_was_ended_stays_so_unless_the_patience_is_raised(model_dir: Path, out: Path) -> None:
    keys = options("steps", 1)
    first, _ = run(model_dir, out, **keys)
    again, trainer = run(model_dir, out, auto_resume_from_checkpoints=True, **keys)
    assert (first.global_step, again.global_step) == (6, 6)
    assert trainer.state.best_global_step == 4
    longer, _ = run(model_dir, out, auto_resume_from_checkpoints=True, **options("steps", 3))
    assert longer.global_step == 10


def test_a_kill_between_a_checkpoint_and_the_evaluation_of_the_epoch(model_dir: Path, tmp_path: Path) -> None:
    """save_steps writes the checkpoint before the evaluation at the end of the epoch."""
    keys = {**options("steps"), "load_best_model_at_end": False, "eval_steps": None, "eval_strategy": "epoch"}

    class Killed(BaseException):
        pass

    def dies(trainer: Any) -> dict[str, float]:
        if trainer.state.global_step == 4:
            raise Killed
        return score(trainer)

    run(model_dir, tmp_path / "a", **keys)
    trainer, cfg = make(model_dir, tmp_path / "b", **{**keys, "evaluations": [dies]})
    with pytest.raises(Killed):
        fit(trainer, cfg)
    assert checkpoints.newest_valid(tmp_path / "b") == (tmp_path / "b" / "checkpoint-4", [])
    run(model_dir, tmp_path / "b", resume_from_checkpoint=True, **keys)
    assert steady(tmp_path / "a") == steady(tmp_path / "b")


@pytest.mark.parametrize("at", [1, 2])
def test_the_watchdog_goes_on_counting(model_dir: Path, out: Path, at: int) -> None:
    """Every loss is too high: three in a row stop the run, wherever it was interrupted."""
    keys = {"data": Data(Rows(16)), "packed": False, "logging_steps": 1, "save_steps": 1}
    watchdog = [lambda: LossWatchdog(0.1, 3)]
    run(model_dir, out, callbacks=[*watchdog, lambda: SendSignal(at)], **keys)
    for _ in range(2):
        outcome, _ = run(model_dir, out, callbacks=watchdog, resume_from_checkpoint=True, **keys)
        assert outcome.global_step == 3, "and it stays stopped"
    higher, _ = run(model_dir, out, callbacks=[lambda: LossWatchdog(100.0, 3)], resume_from_checkpoint=True, **keys)
    assert higher.global_step == 4
    assert json.loads((out / "checkpoint-4" / "trainer_state.json").read_text())["global_step"] == 4
