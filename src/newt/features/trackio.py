"""Tracking with Trackio."""

from __future__ import annotations

from typing import ClassVar

from newt.config.section import Config, Section
from newt.extend import Feature


class TrackioSettings(Section):
    """Keys of Trackio."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_trackio: bool | None = None
    """Log there. Default: on when ``trackio_project_name`` is set."""
    trackio_project_name: str | None = None
    """Project."""
    trackio_run_name: str | None = None
    """Name of the run."""
    trackio_space_id: str | None = None
    """Space on the Hub that shows it. Default: on this machine only."""


class Trackio(Feature):
    """Sends metrics there."""

    name = "trackio"
    Settings = (TrackioSettings,)
    off = "use_trackio is not on"
    switches = ("use_trackio", "trackio_project_name")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when asked for, or when there is a project."""
        settings = cfg[TrackioSettings]
        return bool(settings.trackio_project_name) if settings.use_trackio is None else settings.use_trackio
