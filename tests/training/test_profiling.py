"""The profiler, checkpoints on demand, speed, and what happens when a run is over."""

import contextlib
import json
import math
import types
from pathlib import Path

import pytest
import torch
from tests.training.tiny import Data, Rows, load, run

from newt.training import checkpoints, speed
from newt.training.callbacks import profiling
from newt.training.callbacks.base import RunCallback, run_ended
from newt.training.callbacks.profiling import TRACE, Profiling
from newt.training.callbacks.trigger import Trigger
from newt.training.speed import Stopwatch, flops_per_token, matmul_speed


@pytest.mark.parametrize(("start", "steps", "expected"), [(0, 1, True), (1, 2, True), (1, 99, True), (50, 2, False)])
def test_a_trace_is_written_also_when_training_ends_early(model_dir, out, start, steps, expected):
    run(model_dir, out, data=Data(Rows(8)), max_steps=2, callbacks=[lambda: Profiling(out, start, steps)])
    assert (out / TRACE).is_file() is expected
    if expected:
        assert json.loads((out / TRACE).read_text())["traceEvents"]


@pytest.mark.parametrize(("start", "steps", "expected"), [(0, 2, 2), (2, 1, 1), (3, 9, 1)])
def test_exactly_the_wanted_steps_are_in_the_trace(model_dir, out, start, steps, expected):
    """Each optimizer step leaves one event, also when training ends before the last of them."""
    run(
        model_dir, out, data=Data(Rows(16)), packed=False, max_steps=4, callbacks=[lambda: Profiling(out, start, steps)]
    )
    names = [event.get("name", "") for event in json.loads((out / TRACE).read_text())["traceEvents"]]
    assert sum(name.startswith("Optimizer.step#") for name in names) == expected


def test_a_run_that_goes_on_records_the_rest(model_dir, out):
    options = {"data": Data(Rows(16)), "packed": False}
    run(model_dir, out, **options, max_steps=2, save_steps=2)
    run(model_dir, out, **options, max_steps=4, resume_from_checkpoint=True, callbacks=[lambda: Profiling(out, 0, 3)])
    names = [event.get("name", "") for event in json.loads((out / TRACE).read_text())["traceEvents"]]
    assert sum(name.startswith("Optimizer.step#") for name in names) == 1


def test_a_profiler_that_is_at_work_already_does_not_end_the_run(model_dir, out, monkeypatch):
    said = []
    monkeypatch.setattr(profiling, "warn", said.append)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        outcome, _ = run(model_dir, out, data=Data(Rows(8)), max_steps=2, callbacks=[lambda: Profiling(out, 0, 2)])
    assert outcome.global_step == 2
    assert len(said) <= 1
    assert bool(said) is not (out / TRACE).is_file()


def test_a_full_disk_does_not_end_the_run(model_dir, out, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    said = []
    monkeypatch.setattr(profiling, "warn", said.append)
    monkeypatch.setattr(torch.profiler.profile, "export_chrome_trace", full)
    outcome, _ = run(model_dir, out, data=Data(Rows(8)), max_steps=2, callbacks=[lambda: Profiling(out, 0, 1)])
    assert outcome.global_step == 2
    assert said == ["The profile was not written: No space left on device"]


@pytest.mark.parametrize(
    ("start", "step", "expected"),
    [(0, 0, ["all", "all"]), (0, 3, ["all", None]), (2, 0, [None])],
)
def test_the_memory_is_recorded_before_the_model_is_on_the_gpu(tmp_path, monkeypatch, start, step, expected):
    """From the first step on means from the making of the trainer on; a run that goes on later records nothing."""
    calls = []
    recorder = types.SimpleNamespace(_record_memory_history=lambda enabled: calls.append(enabled))
    monkeypatch.setattr(profiling, "MEMORY", recorder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(profiling, "profile", lambda **options: contextlib.nullcontext())
    callback = Profiling(tmp_path, start, 2)
    callback.on_train_begin(None, types.SimpleNamespace(global_step=step, is_world_process_zero=True), None)
    assert calls == expected


def test_a_trace_is_written_when_the_run_fails(tmp_path):
    profiling = Profiling(tmp_path, 0, 5)
    trainer = types.SimpleNamespace(callback_handler=types.SimpleNamespace(callbacks=[profiling]))
    state = types.SimpleNamespace(global_step=0, is_world_process_zero=True)
    with pytest.raises(ValueError, match="stop"), run_ended(trainer):
        profiling.on_train_begin(None, state, None)
        torch.ones(2) + 1
        raise ValueError("stop")
    assert (tmp_path / TRACE).is_file()


def test_callbacks_hear_how_a_run_ended():
    class Ear(RunCallback):
        heard = "nothing"

        def on_run_end(self, folder):
            self.heard = folder

    ear = Ear()
    trainer = types.SimpleNamespace(callback_handler=types.SimpleNamespace(callbacks=[object(), ear]))
    with run_ended(trainer) as trained:
        trained(Path("out"))
    assert ear.heard == Path("out")
    with run_ended(trainer):
        pass
    assert ear.heard is None


@pytest.mark.parametrize("name", ["newt_checkpoint.save", "axolotl_checkpoint.save"])
def test_a_file_asks_for_a_checkpoint(model_dir, out, name):
    out.mkdir()
    (out / name).touch()
    paths = [out / "newt_checkpoint.save", out / "axolotl_checkpoint.save"]
    options = {"save_strategy": "no", "packed": False, "max_steps": 4}
    run(model_dir, out, data=Data(Rows(16)), callbacks=[lambda: Trigger(paths, 2)], **options)
    assert not (out / name).exists()
    assert [folder.name for folder in checkpoints.all_checkpoints(out)] == ["checkpoint-2"]


def test_without_the_file_there_is_none(model_dir, out):
    options = {"save_strategy": "no", "packed": False, "max_steps": 2}
    run(model_dir, out, data=Data(Rows(8)), callbacks=[lambda: Trigger([out / "x"], 1)], **options)
    assert checkpoints.all_checkpoints(out) == []


def test_operations_of_a_token(model_dir):
    model = load(model_dir).model
    embedding = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is embedding
    total = sum(parameter.numel() for parameter in model.parameters())
    assert flops_per_token(model) == 6 * (total - (0 if tied else embedding.numel()))
    model.requires_grad_(False)
    assert flops_per_token(model) == 4 * (total - (0 if tied else embedding.numel()))


def test_of_experts_those_that_are_used_count():
    model = torch.nn.Module()
    model.experts, model.router = torch.nn.Linear(4, 8, bias=False), torch.nn.Linear(4, 2, bias=False)
    model.config = types.SimpleNamespace(num_local_experts=8, num_experts_per_tok=2)
    model.get_input_embeddings = model.get_output_embeddings = lambda: None
    assert flops_per_token(model) == 6 * (32 * 2 / 8 + 8)


def test_rates_are_of_the_interval_without_pauses(model_dir, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("newt.training.speed.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("newt.training.speed.matmul_speed", lambda device, dtype: 2000.0)
    monkeypatch.setattr("newt.training.speed.flops_per_token", lambda model: 10.0)
    args = types.SimpleNamespace(device=torch.device("cpu"), bf16=False, fp16=False, world_size=2)
    watch = Stopwatch()
    now[0] = 3.0
    with watch.pause():
        now[0] = 8.0
    now[0] = 10.0
    model = torch.nn.Linear(1, 1)
    # 100 tokens in 5 seconds: 20 a second, 200 operations of 2 x 2000.
    first = watch.log(100, 40, model, args)
    assert first == {"tokens_per_second": 20.0, "trained_tokens_per_second": 8.0, "mfu": 0.05}
    now[0] = 20.0
    assert watch.log(200, 140, model, args)["trained_tokens_per_second"] == 10.0


def test_the_clock_starts_with_the_first_step(model_dir, out, monkeypatch):
    """What comes before it, such as answers to look at, is not training."""
    now = [100.0]
    monkeypatch.setattr("newt.training.speed.time.perf_counter", lambda: now[0])
    watch = Stopwatch()
    now[0] = 500.0
    watch.start(40, 10)
    now[0] = 502.0
    watch.start(60, 20)
    assert (watch.started, watch.tokens, watch.trained) == (500.0, 40, 10)


def test_a_full_memory_gives_smaller_matrices(monkeypatch):
    tried = []

    def product(side, device, dtype):
        tried.append(side)
        if side > room:
            raise torch.OutOfMemoryError("full")
        return 7.0

    monkeypatch.setattr(speed, "_product_speed", product)
    monkeypatch.setitem(speed.SIDE, "cpu", 8192)
    room = 2048
    assert matmul_speed(torch.device("cpu"), torch.float32) == 7.0
    assert tried == [8192, 4096, 2048]
    room = 0
    assert matmul_speed(torch.device("cpu"), torch.float32) == math.inf


def test_the_measured_product_draws_no_number():
    before = torch.get_rng_state()
    assert matmul_speed(torch.device("cpu"), torch.float32) > 1e6
    assert torch.equal(before, torch.get_rng_state())
