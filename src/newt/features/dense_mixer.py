"""DenseMixer: routers learn from all experts, not only from those that they chose."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Feature

MODELS = ("olmoe", "qwen2_moe", "qwen3_moe")


class DenseMixerSettings(PluginSection):
    """The key of DenseMixer."""

    plugin = "DenseMixerPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    dense_mixer: bool | None = None
    """Compute all experts for the gradient of the routers."""


class DenseMixer(Feature):
    """Replaces the routers' gradient."""

    name = "dense mixer"
    Settings = (DenseMixerSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[DenseMixerSettings].dense_mixer)

    def check(self) -> Iterable[Problem]:
        """Models whose routers are known."""
        if self.facts.model_type and self.facts.model_type not in MODELS:
            message = f"does not know {self.facts.model_type} models."
            yield self.problem("dense_mixer", message, f"It knows {', '.join(MODELS)}.")
