"""Variants of attention: flex options, large heads, fused preparation, a scaled softmax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

FACTOR, BIAS = 0.43, 0.0
"""Of the scaled softmax, where nothing else is said."""


class FlexSettings(Section):
    """Keys that need flex attention."""

    flex_attn_compile_kwargs: dict[str, Any] | None = None
    """Arguments with which flex attention is compiled, such as ``dynamic`` and ``mode``."""
    scaling_softmax: bool | None = None
    """Scale the logits of each query by the logarithm of its position."""
    scaling_softmax_factor: float | None = None
    """Factor of that logarithm. Default 0.43."""
    scaling_softmax_bias: float | None = None
    """Added to it. Default 0."""


class AttentionKernelSettings(Section):
    """Keys of attention kernels."""

    coming: ClassVar[frozenset[str]] = frozenset(
        {"large_head_attention", "flash_attn_d512", "sdpa_varlen", "fused_attn_kernel"}
    )

    gemma4_hybrid_attn_impl: bool | None = None
    """Gemma 4: flash attention in sliding-window layers, SDPA in the global ones, whose heads are too large for it."""
    large_head_attention: Literal["sdpa", "auto", "triton_flash"] | None = None
    """What computes attention with heads of more than 256 numbers."""
    flash_attn_d512: bool | None = None
    """Older spelling of ``large_head_attention: triton_flash``."""
    sdpa_varlen: bool | None = None
    """Give SDPA the borders of packed samples instead of a mask."""
    fused_attn_kernel: bool | None = None
    """Norm and rotation of queries and keys in one kernel."""


class AttentionKernels(Feature):
    """Chooses them."""

    name = "attention kernels"
    Settings = (FlexSettings, AttentionKernelSettings)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys is."""
        return any(getattr(cfg[section], key) for section in cls.Settings for key in section.model_fields)

    def check(self) -> Iterable[Problem]:
        """Which implementation each of them changes."""
        flex, settings = self.cfg[FlexSettings], self.cfg[AttentionKernelSettings]
        if self.cfg.value("attn_implementation") != "flex_attention" and not self.cfg.value("flex_attention"):
            for key in ("flex_attn_compile_kwargs", "scaling_softmax"):
                if getattr(flex, key):
                    yield self.problem(key, "needs flex attention.", "Set attn_implementation: flex_attention.")
        if flex.scaling_softmax and flex.flex_attn_compile_kwargs:
            message = "cannot be used with flex_attn_compile_kwargs yet."
            yield self.problem(("scaling_softmax", "flex_attn_compile_kwargs"), message, "Remove one.")
        for key in ("scaling_softmax_factor", "scaling_softmax_bias"):
            if key in self.cfg.given and not flex.scaling_softmax:
                yield self.problem(key, "has no effect: scaling_softmax is not on.", "Remove it, or switch it on.")
        if settings.flash_attn_d512 and settings.large_head_attention not in (None, "triton_flash"):
            message = f"is another spelling of large_head_attention, which is {settings.large_head_attention}."
            yield self.problem("flash_attn_d512", message, "Remove flash_attn_d512.")
        if settings.gemma4_hybrid_attn_impl:
            yield from self._check_hybrid()

    def _check_hybrid(self) -> Iterable[Problem]:
        others = ("sdp_attention", "flex_attention", "xformers_attention", "eager_attention", "sage_attention")
        other = next((key for key in others if self.cfg.value(key)), None)
        if self.cfg.value("attn_implementation") not in (None, "flash_attention_2"):
            other = "attn_implementation"
        if other:
            yield self.problem(
                ("gemma4_hybrid_attn_impl", other),
                f"needs flash_attention_2, and {other} asks for another.",
                f"Remove {other}, or set attn_implementation: flash_attention_2.",
            )
        if self.facts.model_type and not self.facts.model_type.startswith("gemma4"):
            message = f"is for Gemma 4, and this is a {self.facts.model_type} model."
            yield self.problem("gemma4_hybrid_attn_impl", message, "Remove it.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Give the finished model another attention function."""
        flex, kernels = self.cfg[FlexSettings], self.cfg[AttentionKernelSettings]
        if options := flex.flex_attn_compile_kwargs:
            plan.prepare.append(lambda model: _functions().use_compiled_flex(model, options))
        if flex.scaling_softmax:
            factor = FACTOR if flex.scaling_softmax_factor is None else flex.scaling_softmax_factor
            bias = BIAS if flex.scaling_softmax_bias is None else flex.scaling_softmax_bias
            plan.prepare.append(lambda model: _functions().use_scaled_softmax(model, factor, bias))
        if kernels.gemma4_hybrid_attn_impl:
            plan.prepare.append(lambda model: _functions().use_large_heads(model))


def _functions() -> Any:
    from newt.models import attention_functions

    return attention_functions
