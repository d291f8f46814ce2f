"""Tokens a second."""

from __future__ import annotations

from collections.abc import Iterable

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class ThroughputSettings(Section):
    """Keys of throughput."""

    include_tokens_per_second: bool | None = None
    """Accepted for compatibility: tokens a second are always logged."""
    include_tkps: bool = True
    """Accepted for compatibility: tokens a second are always logged."""


class Throughput(Feature):
    """Says when a key has nothing to switch."""

    name = "throughput"
    Settings = (ThroughputSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When one is switched off."""
        return not cfg[ThroughputSettings].include_tkps

    def check(self) -> Iterable[Problem]:
        """Counting tokens costs nothing and cannot be switched off."""
        yield self.problem("include_tkps", "is always on.", "Remove it.", kind="warning")
