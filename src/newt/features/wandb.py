"""Tracking with Weights & Biases."""

from __future__ import annotations

import netrc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from newt.config.section import Config, Problem, Section
from newt.support import env
from newt.training.trackers import TrackedRun, Tracker, TrackerFeature, Uploads, grouped


class WandbSettings(Section):
    """Keys of Weights & Biases."""

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


class Wandb(TrackerFeature):
    """Sends metrics there."""

    name = "wandb"
    Settings = (WandbSettings,)
    off = "wandb_project is not set"
    switches = ("use_wandb", "wandb_project", "wandb_mode")
    keys = ("use_wandb", "wandb_project")
    packages = ("wandb",)
    extra = "wandb"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when asked for, or when there is a project."""
        settings = cfg[WandbSettings]
        return bool(settings.wandb_project) if settings.use_wandb is None else settings.use_wandb

    def check(self) -> Iterable[Problem]:
        """A run with an id wants a name; the package; a key, unless everything stays here."""
        settings = self.cfg[WandbSettings]
        if settings.wandb_run_id and not settings.wandb_name:
            message = "also becomes the run's name, because wandb_name is not set."
            yield self.problem("wandb_run_id", message, kind="warning")
        if settings.wandb_mode == "disabled":
            return
        missing = list(super().check())
        yield from missing
        online = (settings.wandb_mode or env.read("WANDB_MODE") or "online") == "online"
        if self.facts.known and not missing and online and not _has_key():
            hint = "Run 'wandb login', set WANDB_API_KEY, or set wandb_mode: offline."
            yield self.problem(self.keys, "there is no key of Weights & Biases.", hint)

    def tracker(self) -> Tracker:
        """The tracker of these settings."""
        return _Wandb(self.cfg[WandbSettings])

    def uploads(self) -> Uploads:
        """Every checkpoint, or the model at the end."""
        wanted = self.cfg[WandbSettings].wandb_log_model
        return ("end" if wanted else None) if isinstance(wanted, bool) else wanted

    def watched(self) -> tuple[str, ...]:
        """Histograms."""
        wanted = self.cfg[WandbSettings].wandb_watch
        return {"all": ("gradients", "parameters"), "parameters": ("parameters",)}.get(
            str(wanted), ("gradients",) if wanted else ()
        )

    def environment(self) -> Mapping[str, Any]:
        """Names of wandb."""
        settings = self.cfg[WandbSettings]
        return {
            "WANDB_PROJECT": settings.wandb_project,
            "WANDB_ENTITY": settings.wandb_entity,
            "WANDB_NAME": settings.wandb_name or settings.wandb_run_id,
            "WANDB_RUN_ID": settings.wandb_run_id,
            "WANDB_MODE": settings.wandb_mode,
            "WANDB_WATCH": settings.wandb_watch,
            "WANDB_LOG_MODEL": settings.wandb_log_model,
            "WANDB_ERROR_REPORTING": False,
        }


def _has_key() -> bool:
    if env.read("WANDB_API_KEY") or env.read("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(env.read("WANDB_BASE_URL")).hostname or "api.wandb.ai"
    file = Path(env.read("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class _Wandb(Tracker):
    name = "Weights & Biases"

    def __init__(self, settings: WandbSettings) -> None:
        self.settings = settings
        self.run: Any = None

    def start(self, run: TrackedRun) -> str | None:
        import wandb

        settings = self.settings
        self.run = wandb.init(
            project=settings.wandb_project,
            entity=settings.wandb_entity,
            name=settings.wandb_name or settings.wandb_run_id,
            id=settings.wandb_run_id or run.run_id,
            mode=settings.wandb_mode,
            resume="allow",
            config=dict(run.config),
            dir=str(run.output_dir),
            settings=wandb.Settings(console="off", silent=True),
        )
        # Of a run that goes on, some steps come twice; with an axis of its own nothing of them is refused.
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        config = wandb.Artifact(f"config-{self.run.id}", type="config")
        config.add_file(str(run.config_file))
        self.run.log_artifact(config)
        found: str = self.run.id
        return found

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log({**grouped(values), "step": step})

    def histograms(self, values: Mapping[str, tuple[list[float], list[float]]], step: int) -> None:
        import wandb

        charts = {name: wandb.Histogram(np_histogram=pair) for name, pair in values.items()}
        self.run.log({**charts, "step": step})

    def table(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        import wandb

        if rows:
            columns = list(rows[0])
            self.run.log({name: wandb.Table(columns, [[row[key] for key in columns] for row in rows]), "step": step})

    def upload(self, folder: Path, name: str) -> None:
        import wandb

        artifact = wandb.Artifact(f"model-{self.run.id}", type="model")
        artifact.add_dir(str(folder))
        self.run.log_artifact(artifact, aliases=[name, "latest"])

    def finish(self, ok: bool) -> None:
        self.run.finish(exit_code=0 if ok else 1)
