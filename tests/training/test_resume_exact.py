"""A run that was stopped and taken up again ends with the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.tiny import Data, Rows, make, run, same, trained
from transformers import TrainerCallback

from newt.training.fit import fit

TINY = Path(__file__).with_name("tiny.py")


class SendSignal(TrainerCallback):
    """Sends this process a signal at the start of a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 == self.step:
            os.kill(os.getpid(), self.number)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


VOLATILE = ("tokens_per_second", "trained_tokens_per_second", "mfu", "memory_gib", "eval_runtime")


def steady(out: Path) -> list[dict[str, Any]]:
    """The log without what a clock measures, and without the summary at the end."""
    return [
        {key: value for key, value in line.items() if key not in VOLATILE}
        for line in lines(out)
        if "train_runtime" not in line
    ]


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("step", [2, 6], ids=["first_epoch", "second_epoch"])
def test_resumed_run_equals_straight_run(model_dir: Path, tmp_path: Path, lora: bool, packed: bool, step: int) -> None:
    data = Data(Rows(26), Rows(6, 5))
    options: dict[str, Any] = {"lora": lora, "packed": packed, "num_epochs": 3, "data": data, "evals_per_epoch": 2}
    straight, other = tmp_path / "straight", tmp_path / "resumed"
    _, whole = run(model_dir, straight, **options)

    stopped, _ = run(model_dir, other, callbacks=[lambda: SendSignal(step)], **options)
    assert (stopped.stopped_by, stopped.global_step) == ("SIGTERM", step)
    assert stopped.checkpoint == other / f"checkpoint-{step}"
    outcome, resumed = run(model_dir, other, resume_from_checkpoint=True, **options)

    assert outcome.stopped_by is None
    assert outcome.global_step == whole.state.global_step
    assert same(trained(whole), trained(resumed))
    assert steady(other) == steady(straight), "also the evaluation that was due at the interrupted step"
    assert resumed.counts == whole.counts


def test_resume_at_the_end_of_an_epoch(model_dir: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_epochs": 2, "data": Data(Rows(16)), "packed": False}
    _, whole = run(model_dir, tmp_path / "a", **options)
    run(model_dir, tmp_path / "b", **options)
    for name in ("checkpoint-8",):
        os.rename(tmp_path / "b" / name, tmp_path / name)
    outcome, resumed = run(model_dir, tmp_path / "b", auto_resume_from_checkpoints=True, **options)
    assert outcome.global_step == 8
    assert same(trained(whole), trained(resumed))


def test_unfinished_accumulation_at_the_end_of_an_epoch(model_dir: Path, tmp_path: Path) -> None:
    """7 micro-batches in steps of 2: the last step of an epoch has one. Resume lands behind it exactly."""
    options: dict[str, Any] = {"num_epochs": 3, "data": Data(Rows(13)), "packed": False, "save_steps": 5}
    _, whole = run(model_dir, tmp_path / "a", **options)
    assert whole.state.global_step == 12
    assert whole.counts.total == 3 * int(Rows(13).lengths.sum())
    run(model_dir, tmp_path / "b", callbacks=[lambda: SendSignal(7)], **options)
    _, resumed = run(model_dir, tmp_path / "b", resume_from_checkpoint=str(tmp_path / "b/checkpoint-5"), **options)
    assert same(trained(whole), trained(resumed))
    assert resumed.counts == whole.counts


def test_more_epochs_than_at_first(model_dir: Path, out: Path) -> None:
    options: dict[str, Any] = {"data": Data(Rows(16)), "packed": False}
    first, _ = run(model_dir, out, num_epochs=1, **options)
    assert first.global_step == 4
    again, _ = run(model_dir, out, num_epochs=2, auto_resume_from_checkpoints=True, **options)
    assert again.global_step == 8


def test_a_finished_run_is_not_trained_again(model_dir: Path, out: Path) -> None:
    options: dict[str, Any] = {"data": Data(Rows(18)), "packed": False, "max_steps": 3}
    _, whole = run(model_dir, out, **options)
    outcome, again = run(model_dir, out, auto_resume_from_checkpoints=True, **options)
    assert (outcome.global_step, outcome.stopped_by) == (3, None)
    assert same(trained(whole), trained(again))


def test_interrupt_leaves_the_handlers_as_they_were(model_dir: Path, out: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    outcome, _ = run(model_dir, out, callbacks=[lambda: SendSignal(1, signal.SIGINT)])
    assert (outcome.stopped_by, outcome.global_step) == ("SIGINT", 1)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_signal_writes_a_full_checkpoint_even_with_save_only_model(model_dir: Path, out: Path) -> None:
    options: dict[str, Any] = {"save_only_model": True, "data": Data(Rows(26))}
    run(model_dir, out, callbacks=[lambda: SendSignal(2)], **options)
    outcome, _ = run(model_dir, out, resume_from_checkpoint=True, **options)
    assert outcome.stopped_by is None


def start(model_dir: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(TINY), str(model_dir), str(out), json.dumps(options)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    assert path.exists(), process.stderr and process.stderr.read()


@pytest.mark.slow
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_killed_run_goes_on_to_the_same_weights(model_dir: Path, tmp_path: Path, lora: bool) -> None:
    """kill -9 at two moments drawn by seed: after some checkpoint, and then while anything may be going on."""
    draw = random.Random(f"kill {lora}")
    moments = [(step, draw.uniform(0, 0.03)) for step in sorted(draw.sample(range(2, 12), 2))]
    options = {"lora": lora, "num_epochs": 6, "save_steps": 1, "auto_resume_from_checkpoints": True}
    _, whole = run(model_dir, tmp_path / "whole", **options)
    out = tmp_path / "killed"
    for step, delay in moments:
        process = start(model_dir, out, **options)
        wait_for(out / f"checkpoint-{step}", process)
        time.sleep(delay)
        process.kill()
        process.wait()
        assert not (out / "final.pt").exists()
    last = start(model_dir, out, **options)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert "Going on from" in errors
    assert same(trained(whole), torch.load(out / "final.pt", weights_only=True))
    assert not list(out.glob(".*")), "nothing half-written is left"
    assert [line["step"] for line in lines(out) if "loss" in line] == list(range(1, whole.state.max_steps + 1))


def kill_at_random(model_dir: Path, out: Path, whole: Path, kills: int) -> None:
    """kill -9 a run of 200 steps so many times, each at some moment after its start; then let it end."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the kills: {seed}")
    draw = random.Random(seed)
    options = {"packed": False, "max_steps": 200, "save_steps": 10, "save_total_limit": 2, "lora": True}
    options |= {"auto_resume_from_checkpoints": True}
    _, straight = run(model_dir, whole, **options)
    for number in range(kills):
        process = start(model_dir, out, **options)
        # Some die before the first step, most at a step that is drawn: in the middle of training or of a checkpoint.
        step = draw.randrange(200 * number // kills, 200 * (number + 1) // kills)
        while process.poll() is None and last_step(out) < step:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        process.communicate()
    last = start(model_dir, out, **options)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors
    assert same(trained(straight), torch.load(out / "final.pt", weights_only=True)), f"seed {seed}"
    assert not list(out.glob(".*")), "nothing half-written is left"
    assert [line["step"] for line in lines(out) if "loss" in line] == list(range(1, 201)), f"seed {seed}"


def last_step(out: Path) -> int:
    try:
        return int(json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["step"])
    except (OSError, ValueError, IndexError):
        return 0


@pytest.mark.slow
def test_five_random_kills_of_200_steps(model_dir: Path, tmp_path: Path) -> None:
    kill_at_random(model_dir, tmp_path / "killed", tmp_path / "whole", 5)


@pytest.mark.nightly
def test_fifty_random_kills_of_200_steps(model_dir: Path, tmp_path: Path) -> None:
    kill_at_random(model_dir, tmp_path / "killed", tmp_path / "whole", 50)


@pytest.mark.slow
def test_sigterm_from_outside(model_dir: Path, out: Path) -> None:
    process = start(model_dir, out, num_epochs=400, save_strategy="no")
    wait_for(out / "metrics.jsonl", process)
    time.sleep(0.3)
    process.terminate()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert "SIGTERM" in errors
    assert len(list(out.glob("checkpoint-*"))) == 1
    trainer, cfg = make(model_dir, out, num_epochs=400, save_strategy="no", resume_from_checkpoint=True)
    trainer.add_callback(SendSignal(int(next(out.glob("checkpoint-*")).name.split("-")[1]) + 2))
    assert fit(trainer, cfg).stopped_by == "SIGTERM"
