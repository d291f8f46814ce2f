"""Stops a run whose loss has exploded."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from newt.support.log import warn


class LossWatchdog(TrainerCallback):  # type: ignore[misc]
    """Stops when several log lines in a row have a loss above a threshold."""

    def __init__(self, threshold: float, patience: int) -> None:
        """Keep the limits.

        Args:
            threshold: a logged training loss above it counts.
            patience: so many of them in a row stop the run.
        """
        self.threshold, self.patience = threshold, patience
        self.violations = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Count, and ask to stop."""
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        self.violations = self.violations + 1 if loss > self.threshold else 0
        if self.violations >= self.patience:
            warn(
                f"The loss was above loss_watchdog_threshold ({self.threshold}) in "
                f"{self.violations} log lines in a row: "
                f"stopping at step {state.global_step}."
            )
            control.should_training_stop = True
