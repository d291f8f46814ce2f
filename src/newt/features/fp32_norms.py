"""Norms in float32 inside a sharded model of a lower precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from newt.config.parallel import Fsdp
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class Fp32NormSettings(Section):
    """Keys of float32 norms."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    fp32_norms: bool | None = None
    """Keep norm layers in float32 (FSDP 2)."""
    fp32_norm_classes: tuple[str, ...] | None = None
    """Class names of these layers. Default: those that end in Norm."""


class Fp32Norms(Feature):
    """Excepts norms from mixed precision."""

    name = "fp32 norms"
    Settings = (Fp32NormSettings,)
    off = "fp32_norms is not on"
    switches = ("fp32_norms",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[Fp32NormSettings].fp32_norms)

    def check(self) -> Iterable[Problem]:
        """Only FSDP 2 shards parameters of different types."""
        if self.cfg[Fsdp].version != 2:
            yield self.problem("fp32_norms", "needs FSDP 2.", "Set fsdp_version: 2 and fsdp_config.")
