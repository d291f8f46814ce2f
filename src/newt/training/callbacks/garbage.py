"""Collects garbage at chosen steps."""

from __future__ import annotations

import gc
from typing import Any

import torch
from transformers import TrainerCallback


def collect() -> None:
    """Collect Python's garbage and give unused GPU memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Garbage(TrainerCallback):  # type: ignore[misc]
    """Collects every ``steps`` steps, before evaluations and at the end of each epoch; -1: only at the last two."""

    def __init__(self, steps: int) -> None:
        """Keep the number of steps."""
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Collect when the number of steps is reached, or an evaluation comes next."""
        if control.should_evaluate or (self.steps > 0 and state.global_step % self.steps == 0):
            collect()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Collect."""
        collect()
