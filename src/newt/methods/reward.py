"""Reward models from pairs of answers (Bradley-Terry; https://arxiv.org/abs/2203.02155)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from newt.config.core import Objective
from newt.config.section import Problem, Section
from newt.extend import Method


class RewardSettings(Section):
    """Keys of reward models."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    center_rewards_coefficient: float | None = Field(default=None, ge=0)
    """Keep rewards near 0 with this weight, such as 0.01."""


class Reward(Method):
    """A head that gives the better answer the higher number."""

    name = "reward"
    Settings = (RewardSettings,)
    rows = "preference"
    chosen_by: ClassVar = {"reward_model": (True,)}
    off = "reward_model is not on"

    def check(self) -> Iterable[Problem]:
        """One reward for each answer, and no packing."""
        yield self.problem("reward_model", "is known, but Newt does not support it yet.", kind="unsupported")
        labels = self.cfg[Objective].num_labels
        if labels not in (None, 1):
            yield self.problem(("num_labels", "reward_model"), "must be 1 for a reward model.", "Remove it.")
        for key in ("sample_packing", "eval_sample_packing"):
            if self.cfg.value(key):
                yield self.problem((key, "reward_model"), "cannot be used with reward_model.", "Remove one.")
