"""Tracking with MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from newt.config.section import Config, Section
from newt.support import env
from newt.training.trackers import TrackedRun, Tracker, TrackerFeature, Uploads


class MlflowSettings(Section):
    """Keys of MLflow."""

    use_mlflow: bool | None = None
    """Log there. Default: on when ``mlflow_experiment_name`` is set."""
    mlflow_tracking_uri: str | None = None
    """Address of the server, or a database such as ``sqlite:///runs.db``. Default: ``mlflow.db`` in ``output_dir``."""
    mlflow_experiment_name: str | None = None
    """Experiment."""
    mlflow_run_name: str | None = None
    """Name of the run."""
    hf_mlflow_log_artifacts: bool | None = None
    """Also upload checkpoints."""


class Mlflow(TrackerFeature):
    """Sends metrics there."""

    name = "mlflow"
    Settings = (MlflowSettings,)
    off = "use_mlflow is not on"
    switches = ("use_mlflow", "mlflow_experiment_name")
    keys = ("use_mlflow", "mlflow_experiment_name")
    packages = ("mlflow", "mlflow-skinny")
    extra = "mlflow"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when asked for, or when there is an experiment."""
        settings = cfg[MlflowSettings]
        return bool(settings.mlflow_experiment_name) if settings.use_mlflow is None else settings.use_mlflow

    def tracker(self) -> Tracker:
        """The tracker of these settings."""
        return _Mlflow(self.cfg[MlflowSettings])

    def uploads(self) -> Uploads:
        """Every checkpoint."""
        return "checkpoint" if self.cfg[MlflowSettings].hf_mlflow_log_artifacts else None

    def environment(self) -> Mapping[str, Any]:
        """Names of MLflow."""
        settings = self.cfg[MlflowSettings]
        return {
            "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
            "MLFLOW_EXPERIMENT_NAME": settings.mlflow_experiment_name,
            "HF_MLFLOW_LOG_ARTIFACTS": settings.hf_mlflow_log_artifacts,
            "MLFLOW_DISABLE_TELEMETRY": True,
        }


LONGEST = 6000
"""Longest value of a parameter that MLflow keeps."""


class _Mlflow(Tracker):
    name = "MLflow"

    def __init__(self, settings: MlflowSettings) -> None:
        self.settings = settings
        self.client: Any = None
        self.run_id = ""

    def start(self, run: TrackedRun) -> str | None:
        from mlflow import MlflowClient

        local = f"sqlite:///{run.output_dir.resolve() / 'mlflow.db'}"
        address = self.settings.mlflow_tracking_uri or env.read("MLFLOW_TRACKING_URI") or local
        self.client = MlflowClient(address)
        if run.run_id:
            self.run_id = run.run_id
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            self.run_id = self.client.create_run(
                self._experiment(run.output_dir, is_local=address == local),
                run_name=self.settings.mlflow_run_name or run.output_dir.name,
            ).info.run_id
            self._log_parameters(run)
        self.client.log_artifact(self.run_id, str(run.config_file))
        return self.run_id

    def _experiment(self, output_dir: Path, *, is_local: bool) -> str:
        name = self.settings.mlflow_experiment_name or "Default"
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            known: str = found.experiment_id
            return known
        artifacts = (output_dir / "mlflow-artifacts").resolve().as_uri() if is_local else None
        made: str = self.client.create_experiment(name, artifact_location=artifacts)
        return made

    def _log_parameters(self, run: TrackedRun) -> None:
        from mlflow.entities import Param

        texts = {key: str(value)[:LONGEST] for key, value in run.config.items()}
        params = [Param(key, value) for key, value in texts.items() if value]
        for begin in range(0, len(params), 100):  # more at once are refused
            self.client.log_batch(self.run_id, params=params[begin : begin + 100])

    def log(self, values: Mapping[str, float], step: int) -> None:
        import time

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def table(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        self.client.log_dict(self.run_id, {"step": step, "rows": rows}, f"{name}/step-{step}.json")

    def upload(self, folder: Path, name: str) -> None:
        self.client.log_artifacts(self.run_id, str(folder), name)

    def finish(self, ok: bool) -> None:
        self.client.set_terminated(self.run_id, "FINISHED" if ok else "KILLED")
