"""Collect Python's garbage and give unused GPU memory back at chosen steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan


class GarbageSettings(Section):
    """Keys of garbage collection."""

    gc_steps: int | None = Field(default=None, ge=-1)
    """Collect every so many steps, and around evaluations, before checkpoints and at the end of each epoch; -1: only
    there. 0: never."""
    gc_collect_steps: int | None = Field(default=None, ge=-1)
    """The same; newer spelling."""
    torch_empty_cache_steps: int | None = Field(default=None, ge=0)
    """Give unused GPU memory back every so many steps. 0: never."""


class GarbageCollection(Feature):
    """Adds the callback, and the trainer's own argument."""

    name = "garbage collection"
    Settings = (GarbageSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When one of the numbers is not 0."""
        return any(getattr(cfg[GarbageSettings], key) for key in GarbageSettings.model_fields)

    @property
    def steps(self) -> int:
        """Steps between collections, -1 for epochs, 0 for never."""
        settings = self.cfg[GarbageSettings]
        return settings.gc_steps or settings.gc_collect_steps or 0

    def check(self) -> Iterable[Problem]:
        """One number."""
        settings = self.cfg[GarbageSettings]
        if settings.gc_steps and settings.gc_collect_steps and settings.gc_steps != settings.gc_collect_steps:
            message = f"is another name of gc_collect_steps, which is {settings.gc_collect_steps}."
            yield self.problem("gc_steps", message, "Keep one of them.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill both."""
        if self.steps:
            plan.callbacks.append(self._callback)
        if every := self.cfg[GarbageSettings].torch_empty_cache_steps:
            plan.args.fill(by=self.name, torch_empty_cache_steps=every)

    def _callback(self) -> Any:
        from newt.training.callbacks.garbage import Garbage

        return Garbage(self.steps)
