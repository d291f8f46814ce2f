"""Older options of the flash-attn package."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class FlashExtrasSettings(Section):
    """Keys of flash-attn beside attention itself."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    flash_attn_cross_entropy: bool | None = None
    """Loss of the flash-attn package."""
    flash_attn_fuse_mlp: bool | None = None
    """Fuse the two input matrices of the MLP. Not with an adapter."""
    flash_optimum: bool | None = None
    """BetterTransformer. Not with mixed precision."""


class FlashExtras(Feature):
    """Fused layers."""

    name = "flash-attn extras"
    Settings = (FlashExtrasSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys is."""
        settings = cfg[FlashExtrasSettings]
        return any(getattr(settings, key) for key in FlashExtrasSettings.model_fields)

    def check(self) -> Iterable[Problem]:
        """Fused layers are not the ones that an adapter or mixed precision knows."""
        settings = self.cfg[FlashExtrasSettings]
        if settings.flash_attn_fuse_mlp:
            for key in ("adapter", "relora"):
                if self.cfg.value(key):
                    message = f"cannot be used with {key}: the layers that it targets are gone."
                    yield self.problem(("flash_attn_fuse_mlp", key), message, "Remove one.")
        for key in ("bf16", "fp16"):
            if settings.flash_optimum and key in self.cfg.given and self.cfg.value(key) not in (False, "auto"):
                yield self.problem(("flash_optimum", key), f"cannot be used with {key}.", "Remove one.")
