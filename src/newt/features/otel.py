"""Metrics for Prometheus (OpenTelemetry)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from newt.config.section import Config, Section
from newt.extend import Feature


class OtelSettings(Section):
    """Keys of OpenTelemetry."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_otel_metrics: bool = False
    """Serve metrics over HTTP while the run lasts."""
    otel_metrics_host: str = "localhost"
    """Address to listen on."""
    otel_metrics_port: int = Field(default=8000, gt=0, lt=65536)
    """Port."""


class Otel(Feature):
    """Serves them."""

    name = "otel"
    Settings = (OtelSettings,)
    off = "use_otel_metrics is not on"
    switches = ("use_otel_metrics",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return cfg[OtelSettings].use_otel_metrics
