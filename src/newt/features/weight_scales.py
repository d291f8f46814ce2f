"""Weights whose scale has drifted away from that of the other layers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

SHARDING = ("deepspeed", "fsdp", "fsdp_config", "tensor_parallel_size")
"""Keys with which no process has whole weights."""


class WeightScale(Section):
    """One entry of ``normalize_weight_scales``."""

    name_pattern: str = Field(min_length=1)
    """Regular expression; it is searched in the names of parameters, such as ``linear_attn.conv1d.weight``."""
    threshold: float = Field(gt=1)
    """A weight is rescaled when its standard deviation is more than this many times the median of its siblings."""
    dry_run: bool = False
    """Only say what would be rescaled."""


class WeightScaleSettings(Section):
    """The key of weight scales."""

    normalize_weight_scales: tuple[WeightScale, ...] | None = None
    """Rescale weights that are much larger than the same weight of the other layers, when the model is loaded."""


class WeightScales(Feature):
    """Compares weights with their siblings in other layers."""

    name = "weight scales"
    Settings = (WeightScaleSettings,)
    off = "normalize_weight_scales is not set"
    switches = ("normalize_weight_scales",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when there are rules."""
        return bool(cfg[WeightScaleSettings].normalize_weight_scales)

    @property
    def rules(self) -> tuple[WeightScale, ...]:
        """The rules of the config."""
        return self.cfg[WeightScaleSettings].normalize_weight_scales or ()

    def check(self) -> Iterable[Problem]:
        """Expressions that can be read, and a base that is saved as it was trained."""
        key = "normalize_weight_scales"
        for number, rule in enumerate(self.rules):
            try:
                re.compile(rule.name_pattern)
            except re.error as error:
                message = f"{rule.name_pattern!r} is not a regular expression: {error}."
                yield self.problem(f"{key}.{number}.name_pattern", message)
            if self.cfg.value("adapter") and not rule.dry_run:
                message = "an adapter would fit the rescaled weights only, and the base on disk keeps its own."
                yield self.problem((f"{key}.{number}", key, "adapter"), message, "Set dry_run: true, or train in full.")
        for other in SHARDING:
            if self.cfg.value(other):
                yield self.problem((key, other), f"needs whole weights, which {other} does not have.", "Remove one.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Compare the weights that were loaded, before anything is put around them."""
        plan.prepare_base.append(self.compare)

    def compare(self, model: Any, notes: list[str]) -> None:
        """Rescale, and say what was rescaled."""
        from newt.models.weight_scales import normalize

        for rule in self.rules:
            notes.extend(normalize(model, rule.name_pattern, rule.threshold, dry_run=rule.dry_run))
