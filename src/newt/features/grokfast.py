"""Grokfast: amplify the slow part of the gradients."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from newt.config.plugins import PluginSection
from newt.config.section import Config
from newt.extend import Feature


class GrokfastSettings(PluginSection):
    """Keys of Grokfast."""

    plugin = "GrokfastPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

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
