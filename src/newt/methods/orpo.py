"""Odds ratio preference optimization (https://arxiv.org/abs/2403.07691)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from newt.config.rl import Reinforcement
from newt.config.section import Problem, Section
from newt.extend import Method


class OrpoSettings(Section):
    """Keys of ORPO."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    orpo_alpha: float | None = Field(default=None, ge=0)
    """Weight of the odds ratio; ``rl_beta`` is another name. Default 0.1."""


class Orpo(Method):
    """Cross-entropy of the better answer plus the odds ratio of both, without a reference model."""

    name = "orpo"
    Settings = (OrpoSettings,)
    rows = "preference"
    chosen_by: ClassVar = {"rl": ("orpo",)}
    off = "rl is not orpo"

    def check(self) -> Iterable[Problem]:
        """One weight only, and no reference model."""
        yield self.not_yet("rl", "orpo")
        alpha, shared = self.cfg[OrpoSettings].orpo_alpha, self.cfg[Reinforcement]
        beta = shared.trl.beta if shared.trl and shared.trl.beta is not None else shared.rl_beta
        if alpha is not None and beta is not None and alpha != beta:
            yield self.problem(("orpo_alpha", "rl_beta"), f"differs from rl_beta ({beta}).", "Keep one of them.")
        if shared.rl_adapter_ref_model:
            yield self.problem("rl_adapter_ref_model", "has no effect: rl: orpo has no reference model.", "Remove it.")
