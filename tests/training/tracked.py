"""Drives the callback of a tracker without a model: the events of a short run, in their order."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import torch
from tests.helpers import make_run


def state(step: int, **more: Any) -> Any:
    return types.SimpleNamespace(global_step=step, is_world_process_zero=True, logging_steps=1, **more)


def callback_of(output_dir: Path, **keys: Any) -> Any:
    """The only callback of a config."""
    (make,) = make_run(output_dir=str(output_dir), **keys).train_plan().callbacks
    return make()


def drive(callback: Any, output_dir: Path, *, start: int = 0, end: int = 2, ok: bool = True) -> None:
    """Steps ``start`` to ``end``: a loss of 1 / step at each, an evaluation, a table and a checkpoint at the end."""
    args = types.SimpleNamespace(output_dir=str(output_dir))
    callback.on_train_begin(args, state(start), None)
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    for step in range(start + 1, end + 1):
        callback.on_pre_optimizer_step(args, state(step - 1), None, model=model)
        callback.on_log(args, state(step), None, logs={"loss": 1 / step, "learning_rate": 1e-3, "note": "text"})
    callback.on_log(args, state(end), None, logs={"eval_loss": 0.25})
    callback.table("answers", [{"prompt": "one?", "answer": "two"}], end)
    folder = output_dir / f"checkpoint-{end}"
    for place in (folder, output_dir):
        place.mkdir(parents=True, exist_ok=True)
        (place / "model.safetensors").write_bytes(b"weights")
    callback.on_save(args, state(end), None)
    callback.on_run_end(output_dir if ok else None)
