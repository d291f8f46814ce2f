"""Cross-entropy in chunks of the sequence: the float32 logits never exist as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

OTHERS = ("cut_cross_entropy", "liger_cross_entropy", "liger_fused_linear_cross_entropy")
"""Other computations of the same loss."""


class ChunkedLossSettings(Section):
    """Keys of the chunked loss."""

    chunked_cross_entropy: bool | None = None
    """Compute the loss from the logits in chunks of the sequence. By default the logits are not made at all."""
    chunked_cross_entropy_num_chunks: PositiveInt | None = None
    """Number of chunks. Default 8."""


class ChunkedLoss(Feature):
    """Computes the loss in chunks."""

    name = "chunked loss"
    Settings = (ChunkedLossSettings,)
    off = "chunked_cross_entropy is not on"
    switches = ("chunked_cross_entropy",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[ChunkedLossSettings].chunked_cross_entropy)

    def check(self) -> Iterable[Problem]:
        """One computation of the loss."""
        for key in OTHERS:
            if self.cfg.value(key):
                yield self.problem(("chunked_cross_entropy", key), f"cannot be used with {key}.", "Keep one of them.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Compute the next-token loss from the logits, chunk by chunk."""
        chunks = self.cfg[ChunkedLossSettings].chunked_cross_entropy_num_chunks or 8

        def loss(model: Any, batch: Any, num_items: Any) -> Any:
            from newt.losses.causal import plain_causal_loss

            return plain_causal_loss(model, batch, num_items, chunks)

        plan.cross_entropy.fill(loss, by=self.name)
