"""Tracking with Trackio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from newt.config.section import Config, Section
from newt.training.trackers import TrackedRun, Tracker, TrackerFeature, grouped


class TrackioSettings(Section):
    """Keys of Trackio."""

    use_trackio: bool | None = None
    """Log there. Default: on when ``trackio_project_name`` is set."""
    trackio_project_name: str | None = None
    """Project."""
    trackio_run_name: str | None = None
    """Name of the run."""
    trackio_space_id: str | None = None
    """Space on the Hub that shows it. Default: on this machine only."""


class Trackio(TrackerFeature):
    """Sends metrics there."""

    name = "trackio"
    Settings = (TrackioSettings,)
    off = "use_trackio is not on"
    switches = ("use_trackio", "trackio_project_name")
    keys = ("use_trackio", "trackio_project_name")
    packages = ("trackio",)
    extra = "trackio"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when asked for, or when there is a project."""
        settings = cfg[TrackioSettings]
        return bool(settings.trackio_project_name) if settings.use_trackio is None else settings.use_trackio

    def tracker(self) -> Tracker:
        """The tracker of these settings."""
        return _Trackio(self.cfg[TrackioSettings])

    def environment(self) -> Mapping[str, Any]:
        """Names of Trackio."""
        settings = self.cfg[TrackioSettings]
        return {"TRACKIO_PROJECT": settings.trackio_project_name, "TRACKIO_SPACE_ID": settings.trackio_space_id}


class _Trackio(Tracker):
    name = "Trackio"

    def __init__(self, settings: TrackioSettings) -> None:
        self.settings = settings
        self.run: Any = None

    def start(self, run: TrackedRun) -> str | None:
        import trackio

        # Trackio knows runs by their names.
        self.run = trackio.init(
            project=self.settings.trackio_project_name or "newt",
            name=run.run_id or self.settings.trackio_run_name,
            space_id=self.settings.trackio_space_id,
            config={key: value for key, value in run.config.items() if not key.startswith("_")},
            resume="allow" if run.run_id else "never",
            private=True,
            embed=False,
        )
        trackio.save(str(run.config_file))
        found: str = self.run.name
        return found

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(grouped(values), step=step)

    def table(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        import pandas
        import trackio

        self.run.log({name: trackio.Table(dataframe=pandas.DataFrame(rows))}, step=step)

    def finish(self, ok: bool) -> None:
        self.run.finish()
