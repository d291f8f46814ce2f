"""Tracking with Comet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class CometSettings(Section):
    """Keys of Comet."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_comet: bool | None = None
    """Log there. Default: on when ``comet_project_name`` or ``comet_api_key`` is set."""
    comet_api_key: str | None = None
    """Key of the account. Better kept in COMET_API_KEY."""
    comet_workspace: str | None = None
    """Workspace."""
    comet_project_name: str | None = None
    """Project."""
    comet_experiment_key: str | None = None
    """Id of the experiment, between 32 and 50 letters and digits."""
    comet_mode: Literal["create", "get", "get_or_create"] | None = None
    """Begin a new experiment, go on with one, or what fits."""
    comet_online: bool = True
    """``false``: keep everything on this machine."""
    comet_experiment_config: dict[str, Any] | None = None
    """Further arguments of ``comet_ml.ExperimentConfig``."""


class Comet(Feature):
    """Sends metrics there."""

    name = "comet"
    Settings = (CometSettings,)
    off = "use_comet is not on"
    switches = ("use_comet", "comet_project_name", "comet_api_key")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when asked for, or when there is a project or an account."""
        settings = cfg[CometSettings]
        wanted = bool(settings.comet_project_name or settings.comet_api_key)
        return wanted if settings.use_comet is None else settings.use_comet

    def check(self) -> Iterable[Problem]:
        """An experiment that exists has an id."""
        settings = self.cfg[CometSettings]
        if settings.comet_mode == "get" and not settings.comet_experiment_key:
            yield self.problem("comet_mode", "get needs comet_experiment_key.")
        if self.facts.known and "comet-ml" not in self.facts.packages:
            keys = ("use_comet", "comet_project_name", "comet_api_key")
            yield self.problem(keys, "needs the package comet-ml.", "Install it.")
