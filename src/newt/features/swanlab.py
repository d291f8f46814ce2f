"""Tracking with SwanLab."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.support import env
from newt.training.trackers import TrackedRun, Tracker, TrackerFeature, Uploads, grouped

COMPLETIONS = ("swanlab_log_completions", "swanlab_completion_log_interval", "swanlab_completion_max_buffer")
"""Keys of tables of sampled answers."""


class SwanlabSettings(PluginSection):
    """Keys of SwanLab."""

    plugin = "SwanLabPlugin"

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


class Swanlab(TrackerFeature):
    """Sends metrics there."""

    name = "swanlab"
    Settings = (SwanlabSettings,)
    off = "use_swanlab is not on"
    switches = ("use_swanlab",)
    keys = ("use_swanlab",)
    packages = ("swanlab",)
    extra = "swanlab"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[SwanlabSettings].use_swanlab)

    def check(self) -> Iterable[Problem]:
        """A run belongs to a project; the package; a key, unless everything stays here."""
        settings = self.cfg[SwanlabSettings]
        if not settings.swanlab_project:
            yield self.problem("use_swanlab", "needs swanlab_project.")
        missing = list(super().check())
        yield from missing
        if self.facts.known and not missing and settings.swanlab_mode in (None, "cloud") and not _has_key(settings):
            hint = "Run 'swanlab login', set SWANLAB_API_KEY, or set swanlab_mode: local."
            yield self.problem("use_swanlab", "there is no key of SwanLab.", hint)
        yield from self._completions()

    def _completions(self) -> Iterable[Problem]:
        """Only methods that sample answers have completions to log; the answers of ``generate_samples`` always go."""
        keys = [key for key in COMPLETIONS if getattr(self.cfg[SwanlabSettings], key)]
        if keys and self.cfg.value("rl"):
            yield self.not_yet(keys[0], "a table of sampled answers")
        for key in () if self.cfg.value("rl") else keys:
            message = "has no effect: this method samples no answers while it trains."
            yield self.problem(key, message, "Use generate_samples: true.", kind="warning")

    def tracker(self) -> Tracker:
        """The tracker of these settings."""
        return _Swanlab(self.cfg[SwanlabSettings])

    def uploads(self) -> Uploads:
        """The model at the end."""
        return "end" if self.cfg[SwanlabSettings].swanlab_log_model else None

    def environment(self) -> Mapping[str, Any]:
        """Names of SwanLab."""
        settings = self.cfg[SwanlabSettings]
        return {
            "SWANLAB_PROJ_NAME": settings.swanlab_project,
            "SWANLAB_WORKSPACE": settings.swanlab_workspace,
            "SWANLAB_EXP_NAME": settings.swanlab_experiment_name,
            "SWANLAB_WEB_HOST": settings.swanlab_web_host,
            "SWANLAB_API_HOST": settings.swanlab_api_host,
        }


def _has_key(settings: SwanlabSettings) -> bool:
    folder = Path(env.read("SWANLAB_SAVE_DIR") or "~/.swanlab").expanduser()
    return bool(settings.swanlab_api_key or env.read("SWANLAB_API_KEY") or (folder / ".netrc").is_file())


class _Swanlab(Tracker):
    name = "SwanLab"

    def __init__(self, settings: SwanlabSettings) -> None:
        self.settings = settings
        self.run: Any = None

    def start(self, run: TrackedRun) -> str | None:
        import swanlab

        settings = self.settings
        mode = {None: "online", "cloud": "online"}.get(settings.swanlab_mode, settings.swanlab_mode)
        if mode == "online" and settings.swanlab_api_key:
            swanlab.login(api_key=settings.swanlab_api_key)
        self.run = swanlab.init(
            project=settings.swanlab_project,
            workspace=settings.swanlab_workspace,
            name=settings.swanlab_experiment_name or run.output_dir.name,
            description=settings.swanlab_description,
            mode=mode,
            log_dir=str(run.output_dir / "swanlog"),
            config=dict(run.config),
            callbacks=self._bots(),
            **({"id": run.run_id, "resume": "allow"} if run.run_id and mode == "online" else {}),
        )
        found = getattr(self.run, "id", None)
        return str(found) if found else None

    def _bots(self) -> list[Any] | None:
        if not self.settings.swanlab_lark_webhook_url:
            return None
        from swanlab.plugin.notification import LarkCallback

        return [LarkCallback(self.settings.swanlab_lark_webhook_url, self.settings.swanlab_lark_secret)]

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(grouped(values), step=step)

    def table(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        import swanlab

        texts = ["\n\n".join(f"{key}:\n{value}" for key, value in row.items()) for row in rows]
        self.run.log({name: [swanlab.Text(text) for text in texts]}, step=step)

    def finish(self, ok: bool) -> None:
        self.run.finish()
