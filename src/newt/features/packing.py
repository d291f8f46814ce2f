"""Sample packing: several rows share one sequence, and none of them sees another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import PositiveInt

from newt.config.core import Batch
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, Feature

if TYPE_CHECKING:
    import numpy as np


class PackingSettings(Section):
    """Keys of sample packing."""

    coming: ClassVar[frozenset[str]] = frozenset({"multipack_real_batches"})

    sample_packing: bool = False
    """Fill each training sequence of ``sequence_len`` tokens with several rows."""
    eval_sample_packing: bool | None = None
    """The same for evaluation. Default: as ``sample_packing``. The loss does not depend on it."""
    sample_packing_sequentially: bool = False
    """Pack rows in their order instead of looking for the best fit."""
    sample_packing_bin_size: PositiveInt | None = None
    """At most this many rows in one sequence. Default: no limit."""
    multipack_real_batches: bool | None = None
    """Keep packed sequences apart in a batch instead of joining them to one row. Default: as the attention needs."""
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
        """Keys that have nothing to do here."""
        for key in _NOT_NEEDED:
            if key in self.cfg.given:
                yield self.problem(key, "is not needed: all rows are packed at once.", "Remove it.", kind="warning")

    def plan_data(self, plan: DataPlan) -> None:
        """Fill the packer slots."""
        settings, batch = self.cfg[PackingSettings], self.cfg[Batch]
        if settings.sample_packing:
            plan.pack.fill(self._packer(batch.sequence_len), by=self.name)
        if settings.sample_packing if settings.eval_sample_packing is None else settings.eval_sample_packing:
            plan.pack_eval.fill(self._packer(batch.eval_length), by=self.name)

    def _packer(self, capacity: int) -> Packer:
        return Packer(capacity, self.cfg[PackingSettings])


class Packer:
    """Packs rows of given lengths into sequences of ``capacity`` tokens."""

    def __init__(self, capacity: int, settings: PackingSettings) -> None:
        self.capacity = capacity
        self.settings = settings

    def __call__(self, lengths: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (order, offsets): bin b holds rows ``order[offsets[b]:offsets[b + 1]]``."""
        from newt.data.pack import best_fit_decreasing, sequential

        if self.settings.sample_packing_sequentially:
            return sequential(lengths, self.capacity)
        return best_fit_decreasing(lengths, self.capacity, seed, self.settings.sample_packing_bin_size)
