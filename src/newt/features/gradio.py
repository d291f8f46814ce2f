"""The web page of ``newt inference --gradio``."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class GradioSettings(Section):
    """Keys of the web page."""

    gradio_title: str | None = None
    """Title of the page. Default: Newt, and the name of the model."""
    gradio_share: bool = False
    """Make the page reachable for everybody who knows its address, through Gradio's servers."""
    gradio_server_name: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets every machine of the network in."""
    gradio_server_port: int | None = Field(default=None, gt=0, lt=65536)
    """Port. Default: the first free one from 7860 on."""
    gradio_max_new_tokens: PositiveInt | None = None
    """Longest answer in tokens. Default: what ``--max-new-tokens`` says."""
    gradio_temperature: float | None = Field(default=None, ge=0)
    """Temperature. Default: what ``--temperature`` says."""


class Gradio(Feature):
    """Warns of a page that others can reach; the page itself is made by the command."""

    name = "gradio"
    Settings = (GradioSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When one of the keys is set."""
        return any(key in cfg.given for key in GradioSettings.model_fields)

    def check(self) -> Iterable[Problem]:
        """A page that is not only for this machine is asked for knowingly."""
        settings = self.cfg[GradioSettings]
        if settings.gradio_share:
            message = "everybody who has the address can use the model, through Gradio's servers."
            yield self.problem("gradio_share", message, kind="warning")
        if settings.gradio_server_name not in LOOPBACK:
            message = f"every machine that reaches {settings.gradio_server_name} can use the model."
            yield self.problem("gradio_server_name", message, kind="warning")
