"""When to log, evaluate and save beyond the trainer's own rules, and which epoch's order the sampler gives."""

from __future__ import annotations

from typing import Any, Protocol

from transformers import TrainerCallback

from newt.training.callbacks.signals import Signals


class Sampler(Protocol):
    """What gives the batches."""

    def set_epoch(self, epoch: int) -> None:
        """Go to the order of an epoch."""


class Flow(TrainerCallback):  # type: ignore[misc]
    """Keeps the sampler at the right epoch, and the trainer's flags right at the first, last and interrupted step."""

    def __init__(self, sampler: Sampler, steps_per_epoch: int, signals: Signals, save_first_step: bool) -> None:
        """Keep what decides.

        Args:
            sampler: gives the batches.
            steps_per_epoch: optimizer steps of an epoch.
            signals: ask the run to stop.
            save_first_step: save a checkpoint after the first step.
        """
        self.sampler, self.steps_per_epoch = sampler, steps_per_epoch
        self.signals, self.save_first_step = signals, save_first_step

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Use the cadence of this run's config: a checkpoint brings the one that it was written with."""
        state.compute_steps(args, state.max_steps)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the epoch by the step count, which is exact after a resume too."""
        self.sampler.set_epoch(state.global_step // self.steps_per_epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log the last step, save the first one if wanted, and stop when a signal asks for it."""
        if state.global_step >= state.max_steps:
            control.should_log = True
        elif self.signals.due:
            control.should_log = control.should_save = control.should_training_stop = True
            control.should_evaluate = False
        if state.global_step == 1 and self.save_first_step:
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The trainer ends the epoch when it is stopped in the middle; that is no reason to evaluate or save again."""
        if self.signals.due and state.global_step < state.max_steps:
            control.should_evaluate = control.should_save = False
