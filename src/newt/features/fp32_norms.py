"""Norms in float32 inside a model of a lower precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from newt.config.parallel import Fsdp
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan


class Fp32NormSettings(Section):
    """Keys of float32 norms."""

    fp32_norms: bool | None = None
    """Hold and compute norm layers in float32, whatever the number type of the rest. With FSDP: version 2."""
    fp32_norm_classes: tuple[str, ...] | None = None
    """Class names of these layers. Default: those that end in Norm."""


class Fp32Norms(Feature):
    """Excepts norms from the lower precision."""

    name = "fp32 norms"
    Settings = (Fp32NormSettings,)
    off = "fp32_norms is not on"
    switches = ("fp32_norms",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[Fp32NormSettings].fp32_norms)

    def check(self) -> Iterable[Problem]:
        """Of the two versions of FSDP, only the second shards parameters of different types."""
        if self.cfg[Fsdp].version == 1:
            yield self.problem(("fp32_norms", "fsdp_version"), "needs FSDP 2.", "Set fsdp_version: 2.")
        if self.cfg.value("float32"):
            message = "has no effect: everything is in float32."
            yield self.problem(("fp32_norms", "float32"), message, "Remove it.", kind="warning")

    def plan_load(self, plan: LoadPlan) -> None:
        """Change the norms of the finished model."""
        classes = self.cfg[Fp32NormSettings].fp32_norm_classes or ()

        def change(model: Any) -> None:
            from newt.models.norms import norms_in_float32

            norms_in_float32(model, classes)

        plan.prepare.append(change)
