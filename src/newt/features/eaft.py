"""Entropy-adaptive fine-tuning: tokens of which the model is certain weigh less."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature

FUSED = (
    "chunked_cross_entropy", "cut_cross_entropy", "liger_cross_entropy", "liger_fused_linear_cross_entropy",
)  # fmt: skip
"""Losses that hide the logits from which the weights come."""


class EaftSettings(Section):
    """Keys of the entropy weights."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_eaft: bool | None = None
    """Weight each trained token by the entropy of the model's prediction."""
    eaft_alpha: float = Field(default=1.0, ge=0)
    """Exponent of the entropy; 0 gives every token the same weight."""
    eaft_k: PositiveInt = 20
    """The entropy is taken over this many most likely tokens."""


class Eaft(Feature):
    """Weights the loss."""

    name = "eaft"
    Settings = (EaftSettings,)
    off = "use_eaft is not on"
    switches = ("use_eaft",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[EaftSettings].use_eaft)

    def check(self) -> Iterable[Problem]:
        """The weights need the logits."""
        for key in FUSED:
            if self.cfg.value(key):
                yield self.problem(("use_eaft", key), f"needs the logits, which {key} never makes.", "Remove one.")
