"""Batches without padding: the rows of a micro-batch stand in one sequence, and none of them sees another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from newt.config.core import Batch
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class FlatteningSettings(Section):
    """The key of flat batches."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    batch_flattening: bool | Literal["auto"] | None = None
    """Put the rows of a micro-batch into one sequence. auto: where the attention can keep them apart."""


VARLEN = ("flash_attention_2", "flash_attention_3", "flex_attention", "xformers", "sage")
"""Attention that keeps the rows of one sequence apart."""


class Flattening(Feature):
    """Makes flat batches."""

    name = "flattening"
    Settings = (FlatteningSettings,)
    off = "batch_flattening is not on"
    switches = ("batch_flattening",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[FlatteningSettings].batch_flattening)

    def check(self) -> Iterable[Problem]:
        """Attention that keeps rows apart, more than one row, and no packing."""
        if self.cfg[FlatteningSettings].batch_flattening == "auto":
            return
        if self.cfg.value("sample_packing"):
            keys = ("batch_flattening", "sample_packing")
            yield self.problem(keys, "cannot be used with sample_packing, which does the same.", "Remove it.")
        chosen = self.cfg.value("attn_implementation")
        flags = ("flash_attention", "flex_attention", "xformers_attention", "sage_attention")
        if "/" not in (chosen or "") and chosen not in VARLEN and not any(self.cfg.value(flag) for flag in flags):
            message = "needs attention that keeps the rows of one sequence apart."
            hint = "Set attn_implementation: flash_attention_2."
            yield self.problem(("batch_flattening", "attn_implementation"), message, hint)
        if self.cfg[Batch].micro == 1:
            message = "has no effect: micro_batch_size is 1."
            yield self.problem(("batch_flattening", "micro_batch_size"), message, kind="warning")
