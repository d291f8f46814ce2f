"""A trace of some steps: where time and memory go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt, PositiveInt

from newt.config.core import RunControl
from newt.config.section import Config, Section
from newt.extend import Feature, TrainPlan


class ProfilerSettings(Section):
    """Keys of the profiler."""

    profiler_steps: PositiveInt | None = None
    """Record this many steps (``profiler_trace.json``, and memory of a GPU in ``snapshot.pickle``)."""
    profiler_steps_start: NonNegativeInt = 0
    """First of them, counted from 0."""


class Profiler(Feature):
    """Records them."""

    name = "profiler"
    Settings = (ProfilerSettings,)
    off = "profiler_steps is not set"
    switches = ("profiler_steps",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the number of steps is given."""
        return cfg[ProfilerSettings].profiler_steps is not None

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the callback."""
        plan.callbacks.append(self._callback)

    def _callback(self) -> Any:
        from newt.training.callbacks.profiling import Profiling

        settings = self.cfg[ProfilerSettings]
        assert settings.profiler_steps is not None
        output_dir = Path(self.cfg[RunControl].output_dir).expanduser()
        return Profiling(output_dir, settings.profiler_steps_start, settings.profiler_steps)
