"""Token counts of log lines, exact whatever the interval, the accumulation and the resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.training.tiny import Data, Rows, make, run
from transformers import TrainerCallback


def lines(out: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if "loss" in line]


def expected(trainer: Any, data: Rows, accumulation: int, steps: int) -> list[tuple[int, int]]:
    """Tokens and trained tokens after each step, added up from the rows that the sampler names."""
    sampler, total, trained, after = trainer.setup.sampler, 0, 0, []
    per_epoch = -(-len(sampler) // accumulation)
    for step in range(steps):
        sampler.set_epoch(step // per_epoch)
        begin = step % per_epoch * accumulation
        for number in range(begin, min(begin + accumulation, len(sampler))):
            rows = [row for pick in sampler[number] for row in pick.rows]
            total += sum(len(data[row]["input_ids"]) for row in rows)
            # The first token of a row is never predicted.
            trained += sum(int((data[row]["labels"][1:] != -100).sum()) for row in rows)
        after.append((total, trained))
    return after


@pytest.mark.parametrize(("accumulation", "packed"), [(3, False), (2, True), (1, True)])
def test_counts_of_every_log_line(model_dir: Path, tmp_path: Path, accumulation: int, packed: bool) -> None:
    """Three epochs with an unfinished last accumulation, logged every second step; once straight, once in two parts."""
    rows = Rows(13)
    options = {"data": Data(rows), "packed": packed, "logging_steps": 2, "gradient_accumulation_steps": accumulation}
    trainer, _ = make(model_dir, tmp_path / "count", **options)
    per_epoch = -(-len(trainer.setup.sampler) // accumulation)
    total = 3 * per_epoch
    counted = expected(trainer, rows, accumulation, total)
    run(model_dir, tmp_path / "straight", **options, num_epochs=3)
    two = tmp_path / "two"
    stop = per_epoch + 1
    run(model_dir, two, **options, num_epochs=3, max_steps=stop, save_steps=stop)
    run(model_dir, two, **options, num_epochs=3, resume_from_checkpoint=True)
    for out in (tmp_path / "straight", two):
        logged = lines(out)
        assert logged[-1]["step"] == total
        for line in logged:
            assert (line["tokens"], line["trained_tokens"]) == counted[line["step"] - 1], line


class Clock(TrainerCallback):
    """Every step takes two seconds, every evaluation a thousand, and everything else no time."""

    def __init__(self) -> None:
        self.now = 50.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.now += 2

    def evaluate(self, trainer: Any) -> dict[str, float]:
        self.now += 1000
        return {}


def test_rates_are_of_training_alone(model_dir: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("newt.training.speed.time.perf_counter", lambda: clock.now)
    monkeypatch.setattr("newt.training.speed.matmul_speed", lambda device, dtype: 1e9)
    monkeypatch.setattr("newt.training.speed.flops_per_token", lambda model: 1e6)
    options = {"packed": False, "logging_steps": 2, "eval_steps": 1, "save_steps": 1, "gradient_accumulation_steps": 1}
    parts = {"callbacks": [lambda: clock], "evaluations": [clock.evaluate]}
    run(model_dir, out, data=Data(Rows(9), Rows(2)), **options, **parts)
    before, tokens, trained = 0, 0, 0
    for line in lines(out):
        seconds = 2 * (line["step"] - before)
        seen, useful = line["tokens"] - tokens, line["trained_tokens"] - trained
        assert line["tokens_per_second"] == pytest.approx(seen / seconds, abs=0.051)  # rounded to one digit
        assert line["trained_tokens_per_second"] == pytest.approx(useful / seconds, abs=0.051)
        assert line["mfu"] == pytest.approx(line["tokens_per_second"] * 1e6 / 1e9, rel=0.01)
        before, tokens, trained = line["step"], line["tokens"], line["trained_tokens"]
    assert before == 5
