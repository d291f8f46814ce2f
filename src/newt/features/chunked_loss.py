"""Cross-entropy in chunks of the sequence: the float32 logits never exist as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature

OTHERS = ("cut_cross_entropy", "liger_cross_entropy", "liger_fused_linear_cross_entropy")
"""Other computations of the same loss."""


class ChunkedLossSettings(Section):
    """Keys of the chunked loss."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    chunked_cross_entropy: bool | None = None
    """Compute the loss in chunks of the sequence."""
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
