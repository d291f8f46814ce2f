"""Tracking with Comet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from newt.config.section import Config, Problem, Section
from newt.support import env
from newt.training.trackers import TrackedRun, Tracker, TrackerFeature, grouped


class CometSettings(Section):
    """Keys of Comet."""

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


class Comet(TrackerFeature):
    """Sends metrics there."""

    name = "comet"
    Settings = (CometSettings,)
    off = "use_comet is not on"
    switches = ("use_comet", "comet_project_name", "comet_api_key")
    keys = ("use_comet", "comet_project_name", "comet_api_key")
    packages = ("comet-ml",)
    extra = "comet"

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
        key = settings.comet_experiment_key
        if key and not (key.isalnum() and 32 <= len(key) <= 50):
            yield self.problem("comet_experiment_key", "must be 32 to 50 letters and digits.")
        missing = list(super().check())
        yield from missing
        if self.facts.known and not missing and settings.comet_online and not _has_key(settings):
            hint = "Run 'comet login', set COMET_API_KEY, or set comet_online: false."
            yield self.problem(self.keys, "there is no key of Comet.", hint)

    def tracker(self) -> Tracker:
        """The tracker of these settings."""
        return _Comet(self.cfg[CometSettings])

    def environment(self) -> Mapping[str, Any]:
        """Names of Comet."""
        settings = self.cfg[CometSettings]
        return {
            "COMET_WORKSPACE": settings.comet_workspace,
            "COMET_PROJECT_NAME": settings.comet_project_name,
            "COMET_EXPERIMENT_KEY": settings.comet_experiment_key,
            "COMET_START_MODE": settings.comet_mode,
            "COMET_START_ONLINE": settings.comet_online,
            # What is logged is what is handed over, and nothing of what torch does.
            "COMET_DISABLE_AUTO_LOGGING": 1,
            "COMET_ERROR_TRACKING_ENABLE": False,
        }


def _has_key(settings: CometSettings) -> bool:
    files = (env.read("COMET_CONFIG") or "~/.comet.config", ".comet.config")
    return bool(
        settings.comet_api_key or env.read("COMET_API_KEY") or any(Path(file).expanduser().is_file() for file in files)
    )


class _Comet(Tracker):
    name = "Comet"

    def __init__(self, settings: CometSettings) -> None:
        self.settings = settings
        self.experiment: Any = None

    def start(self, run: TrackedRun) -> str | None:
        import comet_ml

        settings = self.settings
        quiet = {"auto_output_logging": False, "auto_param_logging": False, "auto_metric_logging": False}
        options = {**quiet, "log_code": False, "display_summary_level": 0, "name": run.output_dir.name}
        if not settings.comet_online:
            # An archive is called by the experiment: what goes on would replace the one of the steps before.
            folder = run.output_dir / "comet" / (f"from-step-{run.from_step}" if run.from_step else "")
            folder.mkdir(parents=True, exist_ok=True)
            options["offline_directory"] = str(folder)
        self.experiment = comet_ml.start(
            api_key=settings.comet_api_key,
            workspace=settings.comet_workspace,
            project_name=settings.comet_project_name,
            experiment_key=settings.comet_experiment_key or run.run_id,
            mode=settings.comet_mode or "get_or_create",
            online=settings.comet_online,
            experiment_config=comet_ml.ExperimentConfig(**{**options, **(settings.comet_experiment_config or {})}),
        )
        self.experiment.log_parameters(dict(run.config), nested_support=False)
        self.experiment.log_asset(str(run.config_file), file_name=run.config_file.name)
        found: str = self.experiment.get_key()
        return found

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.experiment.log_metrics(grouped(values), step=step, epoch=values.get("epoch"))

    def table(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        if rows:
            columns = list(rows[0])
            cells = [[row[key] for key in columns] for row in rows]
            self.experiment.log_table(f"{name}-{step}.csv", cells, headers=columns)

    def finish(self, ok: bool) -> None:
        self.experiment.end()
