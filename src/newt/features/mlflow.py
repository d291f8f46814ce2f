"""Tracking with MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class MlflowSettings(Section):
    """Keys of MLflow."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_mlflow: bool | None = None
    """Log there. Default: on when ``mlflow_experiment_name`` is set."""
    mlflow_tracking_uri: str | None = None
    """Address of the server, or a folder."""
    mlflow_experiment_name: str | None = None
    """Experiment."""
    mlflow_run_name: str | None = None
    """Name of the run."""
    hf_mlflow_log_artifacts: bool | None = None
    """Also upload checkpoints."""


class Mlflow(Feature):
    """Sends metrics there."""

    name = "mlflow"
    Settings = (MlflowSettings,)
    off = "use_mlflow is not on"
    switches = ("use_mlflow", "mlflow_experiment_name")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when asked for, or when there is an experiment."""
        settings = cfg[MlflowSettings]
        return bool(settings.mlflow_experiment_name) if settings.use_mlflow is None else settings.use_mlflow

    def check(self) -> Iterable[Problem]:
        """The package."""
        if self.facts.known and not {"mlflow", "mlflow-skinny"} & set(self.facts.packages):
            yield self.problem(("use_mlflow", "mlflow_experiment_name"), "needs the package mlflow.", "Install it.")
