"""Liger kernels: fused norms, rotations, activations and losses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.parallel import Mesh
from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Feature


class LigerSettings(PluginSection):
    """Keys of Liger kernels."""

    plugin = "LigerPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    liger_rope: bool | None = None
    """Fused rotary position embedding."""
    liger_rms_norm: bool | None = None
    """Fused RMS norm."""
    liger_rms_norm_gated: bool | None = None
    """Fused gated RMS norm (hybrid models)."""
    liger_layer_norm: bool | None = None
    """Fused layer norm."""
    liger_glu_activation: bool | None = None
    """Fused gated activation of the MLP. Also written ``liger_swiglu``."""
    liger_cross_entropy: bool | None = None
    """Fused cross-entropy on logits."""
    liger_fused_linear_cross_entropy: bool | None = None
    """Output layer and cross-entropy in one kernel: the logits never exist as a whole."""
    liger_use_token_scaling: bool | None = None
    """Scale each token's loss by its predicted probability."""


class Liger(Feature):
    """Replaces layers and the loss."""

    name = "liger"
    Settings = (LigerSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys is."""
        return any(getattr(cfg[LigerSettings], key) for key in LigerSettings.model_fields)

    def check(self) -> Iterable[Problem]:
        """Kernels that exclude each other, and the package."""
        settings = self.cfg[LigerSettings]
        if settings.liger_cross_entropy and settings.liger_fused_linear_cross_entropy:
            yield self.problem(
                ("liger_cross_entropy", "liger_fused_linear_cross_entropy"),
                "cannot be used with liger_fused_linear_cross_entropy.",
                "Keep one of them.",
            )
        if settings.liger_use_token_scaling and not settings.liger_fused_linear_cross_entropy:
            yield self.problem("liger_use_token_scaling", "needs liger_fused_linear_cross_entropy.")
        if settings.liger_rms_norm and self.cfg[Mesh].tensor > 1:
            yield self.problem(
                ("liger_rms_norm", "tensor_parallel_size"), "cannot be used with tensor_parallel_size.", "Remove one."
            )
        yield from self._check_facts(settings)

    def _check_facts(self, settings: LigerSettings) -> Iterable[Problem]:
        if self.facts.known and "liger-kernel" not in self.facts.packages:
            key = next(key for key in LigerSettings.model_fields if getattr(settings, key))
            yield self.problem(key, "needs the package liger-kernel.", "Install it.")
        if (self.facts.model_type or "").startswith("gemma4"):
            for key in ("liger_rope", "liger_fused_linear_cross_entropy"):
                if getattr(settings, key):
                    yield self.problem(key, "is not applied to Gemma 4.", "Remove it.", kind="warning")
