"""Training LoRA adapters on a remote service."""

from __future__ import annotations

from typing import Any, ClassVar

from newt.config.plugins import PluginSection
from newt.config.section import Config
from newt.extend import Feature


class HatcherySettings(PluginSection):
    """The key of the service."""

    plugin = "HatcheryPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    hatchery: dict[str, Any] | None = None
    """Backend, address, project, rank, loss and sampling of a remote run."""


class Hatchery(Feature):
    """Sends the run there."""

    name = "hatchery"
    Settings = (HatcherySettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the block is given."""
        return cfg[HatcherySettings].hatchery is not None
