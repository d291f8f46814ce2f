"""MoRA: adapters with one square matrix of high rank."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import NonNegativeInt

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Feature


class MoraSettings(PluginSection):
    """Keys of MoRA."""

    plugin = "MoraPlugin"

    use_mora: bool | None = None
    """Another spelling of ``adapter: mora``."""
    mora_type: NonNegativeInt | None = None
    """How inputs are folded into the square matrix."""


class Mora(Feature):
    """Attaches the adapter."""

    name = "mora"
    Settings = (MoraSettings,)
    off = "adapter is not mora"
    switches = ("use_mora",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the adapter is."""
        return bool(cfg[MoraSettings].use_mora) or cfg.value("adapter") == "mora"

    def check(self) -> Iterable[Problem]:
        """No package offers it: neither peft nor any other on PyPI has such an adapter."""
        key = "use_mora" if self.cfg[MoraSettings].use_mora else "adapter"
        message = "MoRA cannot be trained: no published package implements it."
        hint = "Use adapter: lora, with a larger lora_r and peft_use_rslora."
        yield self.problem((key, "mora_type"), message, hint, kind="unsupported")
        if self.cfg[MoraSettings].use_mora and self.cfg.value("adapter") not in (None, "mora"):
            yield self.problem(("use_mora", "adapter"), f"cannot be used with adapter: {self.cfg.value('adapter')}.")
