from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny import Data, Rows, run
from transformers import TrainerCallback

from newt.config.core import Cadence
from newt.support.errors import NewtError
from newt.training.cadence import Steps, cadence_arguments, logging_steps


@pytest.mark.parametrize(
    ("batches", "accumulation", "epochs", "max_steps", "per_epoch", "total"),
    [
        (10, 1, 1, None, 10, 10),
        (10, 4, 1, None, 3, 3),
        (10, 4, 2.5, None, 3, 8),
        (10, 4, 2.5, 5, 3, 5),
        (1, 8, 1, None, 1, 1),
    ],
)
def test_steps(
    batches: int, accumulation: int, epochs: float, max_steps: int | None, per_epoch: int, total: int
) -> None:
    steps = Steps(batches, accumulation, epochs, max_steps)
    assert (steps.per_epoch, steps.total) == (per_epoch, total)


@pytest.mark.parametrize(("total", "expected"), [(1, 1), (399, 1), (400, 2), (1000, 5), (100_000, 10)])
def test_default_logging(total: int, expected: int) -> None:
    assert logging_steps(Cadence(), Steps(total, 1, 1)) == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ("epoch", None)),
        ({"eval_strategy": "no"}, ("no", None)),
        ({"eval_strategy": "epoch"}, ("epoch", None)),
        ({"eval_steps": 7}, ("steps", 7)),
        ({"eval_steps": 7.0}, ("steps", 7)),
        ({"eval_steps": 1}, ("steps", 1)),
        ({"eval_steps": 0.25}, ("steps", 5)),
        ({"eval_steps": 0.001}, ("steps", 1)),
        ({"evals_per_epoch": 1}, ("epoch", None)),
        ({"evals_per_epoch": 2}, ("steps", 5)),
        ({"evals_per_epoch": 3}, ("steps", 3)),
        ({"evals_per_epoch": 100}, ("steps", 1)),
        ({"eval_strategy": "steps", "logging_steps": 4}, ("steps", 4)),
    ],
)
def test_evaluation_cadence(keys: dict[str, Any], expected: tuple[str, int | None]) -> None:
    """10 steps an epoch, 2 epochs."""
    arguments = cadence_arguments(Cadence(**keys), Steps(10, 1, 2), has_eval=True)
    assert (arguments["eval_strategy"], arguments.get("eval_steps")) == expected
    assert arguments["eval_on_start"] == (expected[0] != "no")
    without = cadence_arguments(Cadence(**keys), Steps(10, 1, 2), has_eval=False)
    assert (without["eval_strategy"], without["eval_on_start"]) == ("no", False)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ("epoch", None)),
        ({"saves_per_epoch": 1}, ("epoch", None)),
        ({"saves_per_epoch": 4}, ("steps", 2)),
        ({"save_steps": 0.5}, ("steps", 10)),
        ({"save_strategy": "no"}, ("no", None)),
        ({"save_strategy": "best", "metric_for_best_model": "eval_loss"}, ("best", None)),
        ({"load_best_model_at_end": True, "eval_steps": 4}, ("steps", 4)),
        ({"load_best_model_at_end": True, "evals_per_epoch": 1}, ("epoch", None)),
        ({"load_best_model_at_end": True, "eval_steps": 4, "save_steps": 8}, ("steps", 8)),
    ],
)
def test_save_cadence(keys: dict[str, Any], expected: tuple[str, int | None]) -> None:
    arguments = cadence_arguments(Cadence(**keys), Steps(10, 1, 2), has_eval=True)
    assert (arguments["save_strategy"], arguments.get("save_steps")) == expected


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"eval_steps": 2.5}, "eval_steps: 2.5 is not a whole number"),
        ({"save_steps": 1.5}, "save_steps: 1.5 is not a whole number"),
        (
            {"load_best_model_at_end": True, "eval_steps": 4, "save_steps": 6},
            "every 4 steps and saving every 6",
        ),
        ({"load_best_model_at_end": True, "eval_strategy": "epoch", "save_steps": 6}, "after each epoch"),
        ({"load_best_model_at_end": True, "eval_strategy": "no"}, "evaluation is off"),
    ],
)
def test_impossible_cadence(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(NewtError, match=text):
        cadence_arguments(Cadence(**keys), Steps(10, 1, 2), has_eval=True)


class Events(TrainerCallback):
    def __init__(self) -> None:
        self.evaluated: list[int] = []
        self.saved: list[int] = []
        self.logged: list[int] = []

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.evaluated.append(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saved.append(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.logged.append(state.global_step)


@pytest.mark.parametrize(
    ("keys", "evaluated", "saved"),
    [
        ({}, [0, 4, 8], [4, 8]),
        ({"evals_per_epoch": 1, "saves_per_epoch": 2}, [0, 4, 8], [2, 4, 6, 8]),
        ({"eval_steps": 3, "save_steps": 3}, [0, 3, 6, 8], [3, 6, 8]),
        ({"eval_strategy": "no", "save_strategy": "no"}, [], []),
        ({"max_steps": 6, "save_first_step": True}, [0, 4, 6], [1, 4, 6]),
        ({"num_epochs": 0.5}, [0, 2], [2]),
    ],
)
def test_cadence_of_a_run(
    model_dir: Path, out: Path, keys: dict[str, Any], evaluated: list[int], saved: list[int]
) -> None:
    """4 steps an epoch, 2 epochs."""
    events = Events()
    options = {"num_epochs": 2, "packed": False, "data": Data(Rows(16), Rows(4)), "logging_steps": 3, **keys}
    outcome, _ = run(model_dir, out, callbacks=[lambda: events], **options)
    assert (events.evaluated, events.saved) == (evaluated, saved)
    assert events.logged[-1] == outcome.global_step
    assert bool(outcome.before) == bool(evaluated)


def test_a_run_that_goes_on_evaluates_nothing_twice(model_dir: Path, out: Path) -> None:
    """Not at its beginning, and not at the checkpoint's step; the next evaluation comes as planned."""
    first, second = Events(), Events()
    options = {"packed": False, "data": Data(Rows(16), Rows(4)), "eval_steps": 2, "save_steps": 2, "num_epochs": 2}
    run(model_dir, out, callbacks=[lambda: first], **options, max_steps=4)
    run(model_dir, out, callbacks=[lambda: second], **options, resume_from_checkpoint=True)
    assert (first.evaluated, second.evaluated) == ([0, 2, 4], [6, 8])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "eval_loss" in line] == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("key", ["resume_from_checkpoint", "auto_resume_from_checkpoints"])
def test_both_ways_to_go_on_skip_the_evaluation(model_dir: Path, out: Path, key: str) -> None:
    events = Events()
    options = {"packed": False, "data": Data(Rows(16), Rows(4)), "eval_steps": 2, "save_steps": 2}
    run(model_dir, out, **options, max_steps=2)
    run(model_dir, out, callbacks=[lambda: events], **options, max_steps=3, **{key: True})
    assert 2 not in events.evaluated
    assert 0 not in events.evaluated


def test_the_first_checkpoint_is_written_once(model_dir: Path, out: Path) -> None:
    """Also when the run goes on from it."""
    first, second = Events(), Events()
    options = {"packed": False, "data": Data(Rows(16)), "save_first_step": True, "save_steps": 3}
    run(model_dir, out, callbacks=[lambda: first], **options, max_steps=1)
    run(model_dir, out, callbacks=[lambda: second], **options, max_steps=4, resume_from_checkpoint=True)
    assert (first.saved, second.saved) == ([1], [3, 4])


def test_only_better_weights_are_saved(model_dir: Path, out: Path) -> None:
    """save_strategy best: a checkpoint after each evaluation that is better than all before, and no other."""
    events, values = Events(), iter([9.0, 5.0, 7.0, 4.0, 6.0])
    best = {"save_strategy": "best", "metric_for_best_model": "eval_score", "greater_is_better": False, "eval_steps": 1}
    more = {"callbacks": [lambda: events], "evaluations": [lambda trainer: {"score": next(values)}]}
    run(model_dir, out, packed=False, data=Data(Rows(16), Rows(2)), **best, **more)
    assert events.evaluated == [0, 1, 2, 3, 4]
    assert [step for step in events.saved if step != 4] == [1, 3]
