"""Context parallelism: one sequence is shared by several devices (ring attention)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import PositiveInt

from newt.config.core import Batch
from newt.config.parallel import Mesh
from newt.config.section import Config, Problem, Section
from newt.extend import Feature

FLASH = ("flash_attention_2", "flash_attention_3")


class ContextParallelSettings(Section):
    """Keys of ring attention."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    heads_k_stride: PositiveInt | None = None
    """Key heads that travel at once; must divide their number. Default 1."""
    ring_attn_func: Literal["varlen_llama3", "batch_ring", "batch_zigzag", "batch_stripe"] | None = None
    """How the sequence is cut. Default: varlen_llama3 with packing, else batch_ring."""


class ContextParallel(Feature):
    """Cuts sequences into pieces."""

    name = "context parallelism"
    Settings = (ContextParallelSettings,)
    off = "context_parallel_size is not above 1"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when a sequence has more than one device."""
        return cfg[Mesh].context > 1

    def check(self) -> Iterable[Problem]:
        """What ring attention can do."""
        key = "context_parallel_size"
        chosen = self.cfg.value("attn_implementation")
        if chosen not in FLASH and not (chosen is None and self.cfg.value("flash_attention")):
            yield self.problem(key, "needs flash attention.", "Set attn_implementation: flash_attention_2.")
        if self.cfg.value("sample_packing") and self.cfg[Batch].micro > 1:
            yield self.problem(("micro_batch_size", key), f"must be 1 with sample_packing and {key}.", "Set it to 1.")
        trl = self.cfg.value("trl")
        if self.cfg.value("rl") == "grpo" and getattr(trl, "use_liger_loss", None):
            yield self.problem(("trl.use_liger_loss", key), f"cannot be used with {key}.", "Remove one.")
        yield from self._check_ring()

    def _check_ring(self) -> Iterable[Problem]:
        settings = self.cfg[ContextParallelSettings]
        if self.cfg.value("sample_packing") and settings.ring_attn_func not in (None, "varlen_llama3"):
            message = f"{settings.ring_attn_func} does not keep packed samples apart."
            yield self.problem("ring_attn_func", message, "Use varlen_llama3, or leave it out.")
        heads = (self.facts.model or {}).get("num_key_value_heads")
        if settings.heads_k_stride and isinstance(heads, int) and heads % settings.heads_k_stride:
            yield self.problem("heads_k_stride", f"must divide the model's {heads} key heads.")
        if self.facts.known and "ring-flash-attn" not in self.facts.packages:
            yield self.problem("context_parallel_size", "needs the package ring-flash-attn.", "Install it.")
