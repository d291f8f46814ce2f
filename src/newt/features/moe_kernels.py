"""Kernels for mixtures of experts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Feature


class MoeKernelSettings(PluginSection):
    """Keys of expert kernels."""

    plugin = "KernelsPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_scattermoe: bool | None = None
    """Experts without copies of their inputs, with LoRA inside the kernel."""
    use_sonicmoe: bool | None = None
    """Experts for compute capability 9.0 and higher."""
    expert_backend: str | None = None
    """Another expert kernel by name."""


class MoeKernels(Feature):
    """Chooses the experts' implementation."""

    name = "expert kernels"
    Settings = (MoeKernelSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys is."""
        return any(getattr(cfg[MoeKernelSettings], key) for key in MoeKernelSettings.model_fields)

    def check(self) -> Iterable[Problem]:
        """One implementation; the fused MLP of LoRA does not know experts."""
        settings = self.cfg[MoeKernelSettings]
        chosen = {"use_scattermoe": "scattermoe", "use_sonicmoe": "sonicmoe"}
        on = [key for key in chosen if getattr(settings, key)]
        if len(on) > 1:
            yield self.problem(("use_sonicmoe", "use_scattermoe"), "cannot be used with use_scattermoe.", "Remove one.")
        other = self.cfg.value("experts_implementation")
        for key in on:
            if other not in (None, chosen[key]):
                keys = ("experts_implementation", key)
                yield self.problem(keys, f"{other} cannot be used with {key}.", f"Write {chosen[key]}, or remove it.")
            if self.cfg.value("lora_mlp_kernel"):
                yield self.problem(("lora_mlp_kernel", key), f"cannot be used with {key}.", "Set it to false.")
            if self.cfg.value("lora_dropout") and self.cfg.value("lora_target_parameters"):
                yield self.problem(("lora_dropout", key), f"must be 0 with {key}.")
        if settings.use_sonicmoe and self.facts.known and (self.facts.capability or (0, 0)) < (9, 0):
            yield self.problem("use_sonicmoe", "needs compute capability 9.0 or higher.", "Use use_scattermoe.")
