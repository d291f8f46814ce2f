"""Simple preference optimization (https://arxiv.org/abs/2405.14734)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from newt.config.rl import Reinforcement
from newt.config.section import Problem, Section
from newt.extend import Method


class SimpoSettings(Section):
    """Keys of SimPO."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    simpo_gamma: float | None = Field(default=None, ge=0)
    """Margin by which the better answer should win. Default 0.5."""
    cpo_alpha: float | None = Field(default=None, ge=0)
    """Weight of the cross-entropy of the better answer."""


class Simpo(Method):
    """Compares mean log-probabilities of both answers, without a reference model."""

    name = "simpo"
    Settings = (SimpoSettings,)
    rows = "preference"
    chosen_by: ClassVar = {"rl": ("simpo",)}
    off = "rl is not simpo"

    def check(self) -> Iterable[Problem]:
        """There is no reference model."""
        yield self.not_yet("rl", "simpo")
        if self.cfg[Reinforcement].rl_adapter_ref_model:
            yield self.problem("rl_adapter_ref_model", "has no effect: rl: simpo has no reference model.", "Remove it.")
