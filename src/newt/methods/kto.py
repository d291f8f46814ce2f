"""Kahneman-Tversky optimization (https://arxiv.org/abs/2402.01306)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from newt.config.section import Problem, Section
from newt.extend import Method


class KtoSettings(Section):
    """Keys of KTO."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    kto_desirable_weight: float = Field(default=1.0, ge=0)
    """Weight of good answers."""
    kto_undesirable_weight: float = Field(default=1.0, ge=0)
    """Weight of bad answers."""


class Kto(Method):
    """Makes good answers likelier and bad ones less likely; they need not come in pairs."""

    name = "kto"
    Settings = (KtoSettings,)
    rows = "unpaired"
    chosen_by: ClassVar = {"rl": ("kto",)}
    off = "rl is not kto"

    def check(self) -> Iterable[Problem]:
        """Something must be learned."""
        yield self.not_yet("rl", "kto")
        settings = self.cfg[KtoSettings]
        if settings.kto_desirable_weight == settings.kto_undesirable_weight == 0:
            keys = ("kto_desirable_weight", "kto_undesirable_weight")
            yield self.problem(keys, "both weights are 0: there is nothing to learn.")
