"""The web page of ``newt inference --gradio``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveInt

from newt.config.section import Config, Section
from newt.extend import Feature


class GradioSettings(Section):
    """Keys of the web page."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    gradio_title: str | None = None
    """Title."""
    gradio_share: bool | None = None
    """Make it reachable from outside through Gradio's servers."""
    gradio_server_name: str | None = None
    """Address to listen on. Default: 127.0.0.1."""
    gradio_server_port: int | None = Field(default=None, gt=0, lt=65536)
    """Port."""
    gradio_max_new_tokens: PositiveInt | None = None
    """Longest answer in tokens."""
    gradio_temperature: float | None = Field(default=None, ge=0)
    """Temperature."""


class Gradio(Feature):
    """Shows it."""

    name = "gradio"
    Settings = (GradioSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When one of the keys is set."""
        return any(getattr(cfg[GradioSettings], key) is not None for key in GradioSettings.model_fields)
