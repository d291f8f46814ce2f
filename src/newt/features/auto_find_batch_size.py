"""Smaller micro-batches until they fit into memory: the optimizer step stays what the config asks for."""

from __future__ import annotations

from collections.abc import Iterable

from newt.config.core import Batch, Loader
from newt.config.section import Config, Problem
from newt.extend import Feature
from newt.support import env
from newt.training.optimizer_table import OPTIMIZERS

BY_MICRO_BATCH = ("kto", "grpo", "gdpo", "ebft")
"""Values of ``rl`` whose loss looks at a whole micro-batch."""


class AutoFindBatchSize(Feature):
    """Says with what a smaller micro-batch trains the same; ``newt train`` looks for it."""

    name = "auto batch size"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When it is on."""
        return cfg[Batch].auto_find_batch_size

    def check(self) -> Iterable[Problem]:
        """There is something to halve, and the step does not depend on how it is split."""
        key, micro = "auto_find_batch_size", self.cfg[Batch].micro
        if micro % 2:
            message = f"cannot halve micro_batch_size: {micro}."
            yield self.problem((key, "micro_batch_size"), message, "Make it a power of 2, or remove this.")
        if self.cfg[Loader].dataloader_drop_last:
            message = "cannot be used with dataloader_drop_last: other rows would be dropped."
            yield self.problem((key, "dataloader_drop_last"), message, "Remove one.")
        if self.cfg.value("streaming") or self.cfg.value("pretraining_dataset"):
            message = "cannot be used with streaming: the largest micro-batch is not known ahead."
            yield self.problem((key, "streaming"), message, "Remove it.")
        if self.cfg.value("rl") in BY_MICRO_BATCH:
            rl = self.cfg.value("rl")
            message = f"cannot be used with rl: {rl}: its loss depends on the micro-batch."
            yield self.problem((key, "rl"), message, "Remove it.")
        if env.world_size() > 1:
            yield self.problem(key, "needs one process.", "Set micro_batch_size and gradient_accumulation_steps.")
        entry = OPTIMIZERS.get(str(self.cfg.value("optimizer")))
        if entry and entry.kind in ("layerwise", "fused"):
            message = f"cannot be used with {self.cfg.value('optimizer')}: gradient_accumulation_steps must stay 1."
            yield self.problem((key, "optimizer"), message, "Remove one.")
