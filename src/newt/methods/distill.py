"""Knowledge distillation: learn the probabilities that a teacher gave to its likeliest tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Method


class DistillSettings(PluginSection):
    """Keys of distillation."""

    plugin = "KDPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    kd_trainer: bool | None = None
    """Learn from the teacher's probabilities in the rows (``logprobs_field``)."""
    kd_alpha: float | None = Field(default=None, ge=0)
    """Weight of the divergence from the teacher. Default 1."""
    kd_ce_alpha: float | None = Field(default=None, ge=0)
    """Weight of the cross-entropy. Default 0."""
    kd_temperature: float | None = Field(default=None, gt=0)
    """Temperature of the student. Default 1."""
    kd_temperature_min: float | None = Field(default=None, gt=0)
    """The temperature falls to this along a cosine."""
    kd_beta: float | None = Field(default=None, ge=0, le=1)
    """0: forward divergence, 1: reverse, between: a mixture. Default 0."""
    kd_normalize_topk: bool | None = None
    """Make the teacher's probabilities of a position sum to 1."""
    kd_online_server: Literal["vllm", "sglang"] | None = None
    """Software of a teacher that is asked during training."""
    kd_online_server_base_url: str | None = None
    """Its address."""
    kd_online_topk: PositiveInt | None = None
    """Tokens of each position that it is asked for."""
    kd_online_timeout: PositiveInt | None = None
    """Seconds to wait for it. Default 120."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """The other keys need the switch."""
        yield from super().check(cfg)
        for key in type(self).model_fields:
            if key in cfg.given and key != "kd_trainer" and not self.kd_trainer and getattr(self, key) is not False:
                yield cfg.problem(key, "has no effect: kd_trainer is not on.", "Remove it, or set kd_trainer: true.")


class Distill(Method):
    """Distillation from rows that hold the teacher's answer."""

    name = "distill"
    Settings = (DistillSettings,)

    @classmethod
    def selected(cls, cfg: Config) -> bool:
        """When the switch is on."""
        return bool(cfg[DistillSettings].kd_trainer)

    def check(self) -> Iterable[Problem]:
        """Temperatures in order, something to learn, and a teacher that can be asked."""
        settings = self.cfg[DistillSettings]
        if settings.kd_alpha == 0 and not settings.kd_ce_alpha:
            yield self.problem(("kd_alpha", "kd_ce_alpha"), "both weights are 0: there is nothing to learn.")
        if settings.kd_temperature_min is not None and settings.kd_temperature_min > (settings.kd_temperature or 1.0):
            yield self.problem("kd_temperature_min", "is above kd_temperature.")
        if settings.kd_online_server_base_url is None:
            for key in ("kd_online_server", "kd_online_topk", "kd_online_timeout"):
                if key in self.cfg.given:
                    yield self.problem(key, "has no effect: kd_online_server_base_url is not set.", "Remove it.")
