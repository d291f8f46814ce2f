"""Grokfast: amplify the slow part of the gradients."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Feature, Stored, TrainPlan

ALPHA, LAMB = 0.98, 2.0


class GrokfastSettings(PluginSection):
    """Keys of Grokfast."""

    plugin = "GrokfastPlugin"

    grokfast_alpha: float | None = Field(default=None, ge=0, lt=1)
    """Decay of the mean of past gradients. Default 0.98."""
    grokfast_lamb: float | None = Field(default=None, ge=0)
    """Factor with which that mean is added. Default 2."""


class Grokfast(Feature):
    """Changes the gradients before each step."""

    name = "grokfast"
    Settings = (GrokfastSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On with the plugin."""
        return cfg[GrokfastSettings].asked(cfg)

    def check(self) -> Iterable[Problem]:
        """Whole gradients of whole parameters."""
        for key in ("fsdp", "fsdp_config", "deepspeed"):
            if self.cfg.value(key):
                yield self.problem(("plugins", key), f"GrokfastPlugin cannot be used with {key}.", "Remove one.")
        optimizer = str(self.cfg.value("optimizer"))
        if optimizer.endswith(("layerwise", "lomo")):
            message = f"GrokfastPlugin changes whole gradients, and {optimizer} never has them."
            yield self.problem(("plugins", "optimizer"), message, "Use adamw_torch.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Change the gradients before each step; checkpoints hold the means."""
        made: list[Any] = []

        def make() -> Any:
            from newt.training.callbacks.grokfast import Grokfast as Filter

            settings = self.cfg[GrokfastSettings]
            alpha, lamb = settings.grokfast_alpha, settings.grokfast_lamb
            made[:] = [Filter(ALPHA if alpha is None else alpha, LAMB if lamb is None else lamb)]
            return made[0]

        def save(model: Any, folder: Path) -> None:
            made[0].save(model, folder)

        def load(model: Any, folder: Path) -> None:
            made[0].load(model, folder)

        plan.callbacks.append(make)
        plan.stored.append(Stored(save=save, load=load))
