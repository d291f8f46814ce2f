"""Stops a run whose loss has exploded."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from newt.support.log import warn
from newt.training.callbacks.base import stored_attributes


class LossWatchdog(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Stops when several log lines in a row have a loss above a threshold, over all parts of a run."""

    def __init__(self, threshold: float, patience: int) -> None:
        """Keep the limits.

        Args:
            threshold: a logged training loss above it counts.
            patience: so many of them in a row stop the run.
        """
        self.threshold, self.patience = threshold, patience
        self.violations = 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"attributes": {"threshold": self.threshold, "violations": self.violations}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Go on counting where the checkpoint's run had stopped, unless the threshold is another."""
        stored = stored_attributes(state, self)
        self.violations = stored["violations"] if stored.get("threshold") == self.threshold else 0
        self._stop_at_patience(state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Count, and ask to stop."""
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        self.violations = self.violations + 1 if loss > self.threshold else 0
        self._stop_at_patience(state, control)

    def _stop_at_patience(self, state: Any, control: Any) -> None:
        if self.violations >= self.patience:
            warn(
                f"The loss was above loss_watchdog_threshold ({self.threshold}) in "
                f"{self.violations} log lines in a row: "
                f"stopping at step {state.global_step}."
            )
            control.should_training_stop = True
