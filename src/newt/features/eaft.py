"""Entropy-adaptive fine-tuning: tokens of which the model is certain weigh less."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

FUSED = (
    "chunked_cross_entropy", "cut_cross_entropy", "liger_cross_entropy", "liger_fused_linear_cross_entropy",
)  # fmt: skip
"""Losses that hide the logits from which the weights come."""


class EaftSettings(Section):
    """Keys of the entropy weights."""

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

    def plan_train(self, plan: TrainPlan) -> None:
        """Weight the next-token loss."""
        settings = self.cfg[EaftSettings]

        def loss(model: Any, batch: Any, num_items: Any) -> Any:
            from newt.losses.eaft import eaft_loss

            return eaft_loss(model, batch, num_items, k=settings.eaft_k, alpha=settings.eaft_alpha)

        plan.cross_entropy.fill(loss, by=self.name)
