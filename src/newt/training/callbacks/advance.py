"""Puts the learning rate where it belongs when a run goes on from weights alone."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from transformers import TrainerCallback


class Advance(TrainerCallback):  # type: ignore[misc]
    """Steps a new schedule to the step at which the run goes on. One that follows the metrics begins anew."""

    def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> None:
        """Called before the first step of this part of the run."""
        if not isinstance(lr_scheduler, LRScheduler) or isinstance(lr_scheduler, ReduceLROnPlateau):
            return
        with warnings.catch_warnings():
            # torch expects a step of the optimizer between two of the schedule.
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            while lr_scheduler.last_epoch < state.global_step:
                lr_scheduler.step()
