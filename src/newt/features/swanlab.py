"""Tracking with SwanLab."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import PositiveInt

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Feature


class SwanlabSettings(PluginSection):
    """Keys of SwanLab."""

    plugin = "SwanLabPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_swanlab: bool | None = None
    """Log there."""
    swanlab_project: str | None = None
    """Project."""
    swanlab_experiment_name: str | None = None
    """Name of the run."""
    swanlab_description: str | None = None
    """Description of the run."""
    swanlab_mode: Literal["cloud", "local", "offline", "disabled"] | None = None
    """Where the log is kept."""
    swanlab_workspace: str | None = None
    """Workspace."""
    swanlab_api_key: str | None = None
    """Key of the account. Better kept in SWANLAB_API_KEY."""
    swanlab_log_model: bool | None = None
    """Also upload the model."""
    swanlab_web_host: str | None = None
    """Address of a server of your own."""
    swanlab_api_host: str | None = None
    """Address of its API."""
    swanlab_lark_webhook_url: str | None = None
    """Lark bot that is told about the run."""
    swanlab_lark_secret: str | None = None
    """Its secret."""
    swanlab_log_completions: bool | None = None
    """Log answers of preference and reinforcement methods as tables."""
    swanlab_completion_log_interval: PositiveInt | None = None
    """Steps between these tables."""
    swanlab_completion_max_buffer: PositiveInt | None = None
    """Longest table."""


class Swanlab(Feature):
    """Sends metrics there."""

    name = "swanlab"
    Settings = (SwanlabSettings,)
    off = "use_swanlab is not on"
    switches = ("use_swanlab",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[SwanlabSettings].use_swanlab)

    def check(self) -> Iterable[Problem]:
        """A run in the cloud belongs to a project."""
        if not self.cfg[SwanlabSettings].swanlab_project:
            yield self.problem("use_swanlab", "needs swanlab_project.")
