"""Sample packing: several rows share one sequence, and none of them sees another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from newt.config.attention import implementation, is_flash, is_varlen
from newt.config.core import Batch
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, Feature

if TYPE_CHECKING:
    import numpy as np


class PackingSettings(Section):
    """Keys of sample packing."""

    sample_packing: bool = False
    """Fill each training sequence of ``sequence_len`` tokens with several rows."""
    eval_sample_packing: bool | None = None
    """The same for evaluation. Default: as ``sample_packing``. The loss does not depend on it."""
    sample_packing_sequentially: bool = False
    """Pack rows in their order instead of looking for the best fit."""
    sample_packing_bin_size: PositiveInt | None = None
    """At most this many rows in one bin. Default: no limit."""
    multipack_real_batches: bool | None = None
    """A micro-batch is ``micro_batch_size`` sequences of ``sequence_len`` tokens, not one as long as all of them.
    Default: as the attention needs: one long row for flash and flex attention, else several."""
    sample_packing_group_size: PositiveInt | None = None
    """Accepted for compatibility: all rows are packed together, groups are not needed."""
    sample_packing_eff_est: float | None = None
    """Accepted for compatibility: the number of steps is known exactly."""
    sample_packing_mp_start_method: str | None = None
    """Accepted for compatibility: packing takes milliseconds and starts no processes."""


_NOT_NEEDED = ("sample_packing_group_size", "sample_packing_eff_est", "sample_packing_mp_start_method")


class Packing(Feature):
    """Packs by best fit over all rows; isolation comes from position ids."""

    name = "packing"
    Settings = (PackingSettings,)
    off = "sample_packing is not on"
    switches = ("sample_packing", "eval_sample_packing")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when training or evaluation rows are packed."""
        settings = cfg[PackingSettings]
        return settings.sample_packing or bool(settings.eval_sample_packing)

    def check(self) -> Iterable[Problem]:
        """Keys that have nothing to do here, and a combination whose first losses deserve a look."""
        for key in _NOT_NEEDED:
            if key in self.cfg.given:
                yield self.problem(key, "is not needed: all rows are packed at once.", "Remove it.", kind="warning")
        yield from self._check_machine()
        settings = self.cfg[PackingSettings]
        if settings.sample_packing_sequentially and not self.cfg.value("curriculum_sampling"):
            message = "keeps neighbours together, but the sequences are still shuffled."
            hint = "Set curriculum_sampling: true to keep the order, or remove it for fuller sequences."
            yield self.problem("sample_packing_sequentially", message, hint, kind="warning")
        yield from self._check_shape()

    def _check_machine(self) -> Iterable[Problem]:
        sdpa, bf16 = implementation(self.cfg) == "sdpa", self.cfg.value("bf16") in (True, "full", "auto")
        capability = self.facts.capability or (0, 0)
        if sdpa and bf16 and self.facts.gpus and (8, 0) <= capability < (9, 0):
            message = "with sdpa and bfloat16, losses of 0.0 were reported on GPUs below compute capability 9.0."
            hint = "Watch the first losses, or use attn_implementation: flash_attention_2."
            yield self.problem("sample_packing", message, hint, kind="warning")

    def _check_shape(self) -> Iterable[Problem]:
        """Flash attention needs one row; dense attention pays for it."""
        real, batch = self.cfg[PackingSettings].multipack_real_batches, self.cfg[Batch]
        if real is None or max(batch.micro, batch.eval_micro) == 1:
            return
        keys, name = ("multipack_real_batches", "attn_implementation"), implementation(self.cfg)
        if real and is_flash(self.cfg):
            message = f"{name} tells the samples apart only when a batch is one row."
            yield self.problem(keys, message, "Remove it, or set micro_batch_size: 1.")
        elif not real and not is_varlen(self.cfg):
            message = f"{name or 'sdpa'} computes all pairs of tokens of the one long row."
            yield self.problem(keys, message, "Remove it: several rows give the same in less time.", kind="warning")

    @property
    def long_rows(self) -> bool:
        """Whether a bin holds a whole micro-batch."""
        real = self.cfg[PackingSettings].multipack_real_batches
        return is_varlen(self.cfg) if real is None else not real

    def plan_data(self, plan: DataPlan) -> None:
        """Fill the packer slots."""
        settings, batch = self.cfg[PackingSettings], self.cfg[Batch]
        micro, eval_micro = (batch.micro, batch.eval_micro) if self.long_rows else (1, 1)
        plan.long_rows.fill(self.long_rows, by=self.name)
        if settings.sample_packing:
            plan.pack.fill(Packer(batch.sequence_len * micro, settings), by=self.name)
        if settings.sample_packing if settings.eval_sample_packing is None else settings.eval_sample_packing:
            plan.pack_eval.fill(Packer(batch.eval_length * eval_micro, settings), by=self.name)


class Packer:
    """Packs rows of given lengths into bins of ``capacity`` tokens."""

    def __init__(self, capacity: int, settings: PackingSettings) -> None:
        self.capacity = capacity
        self.settings = settings

    def __call__(self, lengths: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (order, offsets): bin b holds rows ``order[offsets[b]:offsets[b + 1]]``."""
        from newt.data.pack import best_fit_decreasing, sequential

        limit = self.settings.sample_packing_bin_size
        if self.settings.sample_packing_sequentially:
            return sequential(lengths, self.capacity, limit)
        return best_fit_decreasing(lengths, self.capacity, seed, limit)
