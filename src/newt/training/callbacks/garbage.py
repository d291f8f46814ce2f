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
    """Collects where much memory has just become free, or is just about to be needed.

    That is at the beginning, before and after each evaluation, before checkpoints, at the end of each epoch, and every
    ``steps`` steps unless they are -1. After means: before the next step takes memory.
    """

    def __init__(self, steps: int) -> None:
        """Keep the number of steps."""
        self.steps = steps
        self.due = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Collect what loading has left, and again before the first step."""
        collect()
        self.due = True

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Collect what an evaluation has left."""
        if self.due:
            self.due = False
            collect()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Collect when the number of steps is reached, or an evaluation or a checkpoint comes next."""
        reached = self.steps > 0 and state.global_step % self.steps == 0
        if reached or control.should_evaluate or control.should_save:
            collect()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember to collect."""
        self.due = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Collect."""
        collect()
