"""The Q-GaLore optimizer: gradients in a low-rank space, with projections of few bits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class QGaloreSettings(Section):
    """Keys of Q-GaLore."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    qgalore_rank: PositiveInt = 256
    """Rank of the projected gradient."""
    qgalore_update_proj_gap: PositiveInt = 200
    """Steps between updates of the projection."""
    qgalore_scale: float = Field(default=0.25, gt=0)
    """Factor of the update."""
    qgalore_proj_type: Literal["std", "reverse_std", "right", "left", "full"] = "std"
    """Which side of the matrix is projected."""
    qgalore_proj_quant: bool = True
    """Store projections in few bits."""
    qgalore_proj_bits: Literal[4, 8] = 4
    """How many."""
    qgalore_proj_group_size: PositiveInt = 256
    """Numbers that share one scale."""
    qgalore_cos_threshold: float = Field(default=0.4, ge=-1, le=1)
    """A projection that changes less than this is updated more rarely."""
    qgalore_gamma_proj: float = Field(default=2, gt=0)
    """How much more rarely: factor of the gap."""
    qgalore_queue_size: PositiveInt = 5
    """Past projections that are compared."""


class QGalore(Feature):
    """Makes the optimizer."""

    name = "q-galore"
    Settings = (QGaloreSettings,)
    off = "optimizer is not q_galore_adamw8bit"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When the optimizer is Q-GaLore."""
        return bool(cfg.value("optimizer") == "q_galore_adamw8bit")

    def check(self) -> Iterable[Problem]:
        """It saves memory only with 16-bit gradients."""
        if self.cfg.value("float32") or (self.cfg.value("bf16") is False and not self.cfg.value("fp16")):
            message = "q_galore_adamw8bit saves little memory in float32."
            yield self.problem(("optimizer", "bf16"), message, "Use bf16: auto.", kind="warning")
