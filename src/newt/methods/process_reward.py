"""Process reward models: judge each step of an answer (https://arxiv.org/abs/2211.14275)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.core import Objective
from newt.config.section import Problem
from newt.extend import Method


class ProcessReward(Method):
    """A head that says after each step whether it was right."""

    name = "process reward"
    rows = "steps"
    chosen_by: ClassVar = {"process_reward_model": (True,)}

    def check(self) -> Iterable[Problem]:
        """At least right and wrong, and no packing."""
        yield self.problem("process_reward_model", "is known, but Newt does not support it yet.", kind="unsupported")
        labels = self.cfg[Objective].num_labels
        if labels is not None and labels < 2:
            message = "must be at least 2 for a process reward model."
            yield self.problem(("num_labels", "process_reward_model"), message, "Remove it.")
        for key in ("sample_packing", "eval_sample_packing"):
            if self.cfg.value(key):
                message = "cannot be used with process_reward_model."
                yield self.problem((key, "process_reward_model"), message, "Remove one.")
