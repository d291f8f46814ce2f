"""Batches without padding: the rows of a micro-batch stand in one sequence, and none of them sees another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from newt.config.attention import is_varlen
from newt.config.core import Batch
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, Feature


class FlatteningSettings(Section):
    """The key of flat batches."""

    batch_flattening: bool | Literal["auto"] | None = None
    """Put the rows of a micro-batch into one sequence. auto: where the attention skips what lies between two rows."""


class Flattening(Feature):
    """Makes flat batches; position ids keep the rows apart."""

    name = "flattening"
    Settings = (FlatteningSettings,)
    off = "batch_flattening is not on"
    switches = ("batch_flattening",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[FlatteningSettings].batch_flattening)

    def check(self) -> Iterable[Problem]:
        """More than one row, no packing, and positions of the collator's own."""
        if self.cfg[FlatteningSettings].batch_flattening == "auto":
            return
        for key in ("rl", "reward_model", "process_reward_model"):
            if self.cfg.value(key):
                yield self.not_yet("batch_flattening", f"true with {key}", "Remove it.")
        if self.cfg.value("sample_packing"):
            keys = ("batch_flattening", "sample_packing")
            yield self.problem(keys, "cannot be used with sample_packing, which does the same.", "Remove it.")
        if self.cfg.value("use_pose"):
            keys = ("batch_flattening", "use_pose")
            yield self.problem(keys, "cannot be used with use_pose: a jump looks like the next row.", "Remove one.")
        if self.cfg[Batch].micro == 1:
            message = "has no effect: micro_batch_size is 1."
            yield self.problem(("batch_flattening", "micro_batch_size"), message, kind="warning")
        elif not is_varlen(self.cfg):
            message = "is right with every attention, but sdpa and eager compute all pairs of tokens of the flat row."
            hint = "With attn_implementation: flash_attention_2 it is faster."
            yield self.problem(("batch_flattening", "attn_implementation"), message, hint, kind="warning")

    def plan_data(self, plan: DataPlan) -> None:
        """Say that batches are flat; auto: where that is right and saves time."""
        if self.cfg[FlatteningSettings].batch_flattening != "auto" or self._pays(plan):
            plan.flatten.fill(True, by=self.name)

    def _pays(self, plan: DataPlan) -> bool:
        others = self.cfg.value("sample_packing") or self.cfg.value("use_pose") or plan.collate
        return is_varlen(self.cfg) and bool(plan.isolation) and not others
