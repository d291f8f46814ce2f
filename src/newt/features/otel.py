"""Metrics for Prometheus (OpenTelemetry)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.training.trackers import TrackedRun, Tracker, TrackerFeature


class OtelSettings(Section):
    """Keys of OpenTelemetry."""

    use_otel_metrics: bool = False
    """Serve metrics over HTTP while the run lasts."""
    otel_metrics_host: str = "localhost"
    """Address to listen on."""
    otel_metrics_port: int = Field(default=8000, gt=0, lt=65536)
    """Port."""


class Otel(TrackerFeature):
    """Serves them."""

    name = "otel"
    Settings = (OtelSettings,)
    off = "use_otel_metrics is not on"
    switches = ("use_otel_metrics",)
    keys = ("use_otel_metrics",)
    packages = ("opentelemetry-exporter-prometheus",)
    extra = "otel"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return cfg[OtelSettings].use_otel_metrics

    def check(self) -> Iterable[Problem]:
        """Without the package the run goes on, and serves nothing."""
        for problem in super().check():
            yield dataclasses.replace(problem, kind="warning")

    def tracker(self) -> Tracker:
        """The tracker of these settings."""
        return _Otel(self.cfg[OtelSettings])


NAMES = {"loss": "train_loss", "train_loss": "mean_train_loss"}
"""Log name -> metric name, where they differ. The other metrics are called as in the log."""


class _Otel(Tracker):
    name = "OpenTelemetry"

    def __init__(self, settings: OtelSettings) -> None:
        self.settings = settings
        self.gauges: dict[str, Any] = {}
        self.steps: Any = None
        self.step = 0
        self.provider: Any = None
        self.server: Any = None

    def start(self, run: TrackedRun) -> str | None:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from opentelemetry.sdk.metrics import MeterProvider
        from prometheus_client import start_http_server

        # First the port: when it is taken, nothing else is begun.
        self.server, _ = start_http_server(self.settings.otel_metrics_port, self.settings.otel_metrics_host)
        self.provider = MeterProvider(metric_readers=[PrometheusMetricReader()])
        self.meter = self.provider.get_meter("newt")
        self.steps = self.meter.create_counter("global_step", description="optimizer steps")
        self.step = run.from_step
        self.steps.add(run.from_step)
        return None

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.steps.add(max(0, step - self.step))
        self.step = max(self.step, step)
        for key, value in values.items():
            name = NAMES.get(key, key)
            if name not in self.gauges:
                self.gauges[name] = self.meter.create_gauge(name)
            self.gauges[name].set(value)

    def finish(self, ok: bool) -> None:
        self.provider.shutdown()
        self.server.shutdown()
        self.server.server_close()
