"""Tracking with Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class WandbSettings(Section):
    """Keys of Weights & Biases."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_wandb: bool | None = None
    """Log there. Default: on when ``wandb_project`` is set."""
    wandb_project: str | None = None
    """Project."""
    wandb_entity: str | None = None
    """User or team that owns it."""
    wandb_name: str | None = None
    """Name of the run."""
    wandb_run_id: str | None = None
    """Id of the run; an existing run is continued."""
    wandb_mode: Literal["online", "offline", "disabled"] | None = None
    """``offline``: keep everything on this machine."""
    wandb_watch: Literal["gradients", "parameters", "all"] | bool | None = None
    """Log gradients or parameters as histograms."""
    wandb_log_model: Literal["checkpoint", "end"] | bool | None = None
    """Upload every checkpoint, or the model at the end."""


class Wandb(Feature):
    """Sends metrics there."""

    name = "wandb"
    Settings = (WandbSettings,)
    off = "wandb_project is not set"
    switches = ("use_wandb", "wandb_project", "wandb_mode")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when asked for, or when there is a project."""
        settings = cfg[WandbSettings]
        return bool(settings.wandb_project) if settings.use_wandb is None else settings.use_wandb

    def check(self) -> Iterable[Problem]:
        """A run with an id wants a name, and the package."""
        settings = self.cfg[WandbSettings]
        if settings.wandb_run_id and not settings.wandb_name:
            message = "also becomes the run's name, because wandb_name is not set."
            yield self.problem("wandb_run_id", message, kind="warning")
        if self.facts.known and settings.wandb_mode != "disabled" and "wandb" not in self.facts.packages:
            yield self.problem(("use_wandb", "wandb_project"), "needs the package wandb.", "Install it.")
