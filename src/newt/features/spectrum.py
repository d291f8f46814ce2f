"""Spectrum: train only the layers whose weights carry the most signal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Feature


class SpectrumSettings(PluginSection):
    """Keys of Spectrum."""

    plugin = "SpectrumPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    spectrum_top_fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of each kind of module that is trained. Default 0.5."""
    spectrum_model_name: str | None = None
    """Model whose measurements are used. Default: ``base_model``."""


class Spectrum(Feature):
    """Freezes the rest."""

    name = "spectrum"
    Settings = (SpectrumSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On with the plugin."""
        return cfg[SpectrumSettings].asked(cfg)

    def check(self) -> Iterable[Problem]:
        """An adapter freezes the whole model already."""
        if self.cfg.value("adapter"):
            yield self.problem(("plugins", "adapter"), "SpectrumPlugin cannot be used with adapter.", "Remove one.")
