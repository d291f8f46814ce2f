"""In which order rows are drawn, where it is not at random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from newt.config.core import Data
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, Feature, TrainPlan

if TYPE_CHECKING:
    import numpy as np


class SamplingSettings(Section):
    """Keys of the order of rows."""

    group_by_length: bool | None = None
    """Put rows of similar length into one batch, so that less is padded."""
    curriculum_sampling: bool | None = None
    """Take the rows in the order of the datasets and of their files, in every epoch."""


class Sampling(Feature):
    """Chooses the sampler."""

    name = "sampling"
    Settings = (SamplingSettings,)
    off = "neither group_by_length nor curriculum_sampling is on"
    switches = ("group_by_length", "curriculum_sampling")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys is."""
        settings = cfg[SamplingSettings]
        return bool(settings.group_by_length or settings.curriculum_sampling)

    def check(self) -> Iterable[Problem]:
        """One order only, and none that a shuffle or the packer undoes."""
        settings = self.cfg[SamplingSettings]
        if settings.group_by_length and settings.curriculum_sampling:
            keys = ("group_by_length", "curriculum_sampling")
            yield self.problem(keys, "cannot be used with curriculum_sampling.", "Remove one.")
        if settings.group_by_length and self.cfg.value("sample_packing"):
            message = "has no effect with sample_packing: packed rows are equally long."
            yield self.problem(("group_by_length", "sample_packing"), message, "Remove it.", kind="warning")
        if settings.curriculum_sampling:
            yield from self._check_order()

    def _check_order(self) -> Iterable[Problem]:
        if self.cfg.value("sample_packing") and not self.cfg.value("sample_packing_sequentially"):
            message = "would be lost: sample_packing looks for the best fit over all rows."
            keys = ("curriculum_sampling", "sample_packing")
            yield self.problem(keys, message, "Set sample_packing_sequentially: true.")
        for key in ("shuffle_merged_datasets", "shuffle_before_merging_datasets"):
            if key in self.cfg.given and self.cfg.value(key):
                message = f"keeps the order of shuffled rows: {key} is on."
                yield self.problem("curriculum_sampling", message, f"Remove {key}.", kind="warning")

    def plan_data(self, plan: DataPlan) -> None:
        """Curriculum: no shuffle, unless the config asks for one in words."""
        if self.cfg[SamplingSettings].curriculum_sampling:
            asked = "shuffle_merged_datasets" in self.cfg.given and self.cfg[Data].shuffle_merged_datasets
            plan.keep_order = not asked

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the slot of the batch sampler."""
        grouped = self.cfg[SamplingSettings].group_by_length
        if not (grouped and self.cfg.value("sample_packing")):
            plan.batches.fill(_by_length if grouped else _in_order, by=self.name)


def _by_length(lengths: np.ndarray, micro: int, **options: Any) -> Any:
    from newt.training.length_groups import LengthGrouped

    return LengthGrouped(lengths, micro, **options)


def _in_order(lengths: np.ndarray, micro: int, **options: Any) -> Any:
    from newt.training.batches import BatchSampler

    return BatchSampler(lengths, micro, shuffle=False, **options)
