"""In which order rows are drawn, where it is not at random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.core import Data
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class SamplingSettings(Section):
    """Keys of the order of rows."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    group_by_length: bool | None = None
    """Put rows of similar length into one batch."""
    curriculum_sampling: bool | None = None
    """Take the rows in the order of the files."""


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
        """One order only, and none that a shuffle undoes."""
        settings = self.cfg[SamplingSettings]
        if settings.group_by_length and settings.curriculum_sampling:
            keys = ("group_by_length", "curriculum_sampling")
            yield self.problem(keys, "cannot be used with curriculum_sampling.", "Remove one.")
        if settings.group_by_length and self.cfg.value("sample_packing"):
            message = "has no effect with sample_packing: packed rows are equally long."
            yield self.problem(("group_by_length", "sample_packing"), message, "Remove it.", kind="warning")
        data = self.cfg[Data]
        shuffled = data.shuffle_merged_datasets and len(data.datasets or ()) > 1
        if settings.curriculum_sampling and shuffled:
            message = "keeps the order of shuffled rows: shuffle_merged_datasets is on."
            yield self.problem("curriculum_sampling", message, "Set shuffle_merged_datasets: false.", kind="warning")
