"""Jagged restarts: the learning rate of any schedule falls and rises again every so many steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature

WARMUP = 10
ANNEAL = 1


class JaggedSettings(Section):
    """Keys of jagged restarts."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    jagged_restart_steps: PositiveInt | None = None
    """Steps from one restart of the learning rate to the next."""
    jagged_restart_warmup_steps: NonNegativeInt | None = None
    """Steps in which the learning rate rises again after a restart. Default 10."""
    jagged_restart_anneal_steps: NonNegativeInt | None = None
    """Steps in which it falls before a restart. Default 1."""


class JaggedRestarts(Feature):
    """Wraps the schedule."""

    name = "jagged restarts"
    Settings = (JaggedSettings,)
    off = "jagged_restart_steps is not set"
    switches = ("jagged_restart_steps",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the restarts have a distance."""
        return cfg[JaggedSettings].jagged_restart_steps is not None

    def check(self) -> Iterable[Problem]:
        """Rise and fall must fit between two restarts."""
        settings = self.cfg[JaggedSettings]
        warmup = WARMUP if settings.jagged_restart_warmup_steps is None else settings.jagged_restart_warmup_steps
        anneal = ANNEAL if settings.jagged_restart_anneal_steps is None else settings.jagged_restart_anneal_steps
        if warmup + anneal > (settings.jagged_restart_steps or 0):
            yield self.problem(
                ("jagged_restart_steps", "jagged_restart_warmup_steps", "jagged_restart_anneal_steps"),
                f"is shorter than the warmup ({warmup}) and the annealing ({anneal}) of each restart.",
                "Make it larger, or set jagged_restart_warmup_steps.",
            )
