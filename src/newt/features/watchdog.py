"""Stop a run whose loss has exploded."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt

from newt.config.section import Config, Section
from newt.extend import Feature, TrainPlan


class WatchdogSettings(Section):
    """Keys of the watchdog."""

    loss_watchdog_threshold: float | None = Field(default=None, gt=0)
    """Stop when the logged loss stays above this."""
    loss_watchdog_patience: PositiveInt = 3
    """How many log lines in a row."""


class Watchdog(Feature):
    """Watches the logged loss."""

    name = "loss watchdog"
    Settings = (WatchdogSettings,)
    off = "loss_watchdog_threshold is not set"
    switches = ("loss_watchdog_threshold",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the threshold is given."""
        return cfg[WatchdogSettings].loss_watchdog_threshold is not None

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the callback."""
        plan.callbacks.append(self._callback)

    def _callback(self) -> Any:
        from newt.training.callbacks.watchdog import LossWatchdog

        settings = self.cfg[WatchdogSettings]
        assert settings.loss_watchdog_threshold is not None
        return LossWatchdog(settings.loss_watchdog_threshold, settings.loss_watchdog_patience)
