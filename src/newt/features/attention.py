"""Which attention implementation runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from newt.config.attention import FLAGS, implementation
from newt.config.section import Config, Problem, Section
from newt.extend import Facts, Feature, LoadPlan
from newt.models.attention import IMPLEMENTATIONS, needs, refusal
from newt.models.isolation import lacks

SHORT = {"flash": "flash_attention_2", "flex": "flex_attention", "sdp": "sdpa"}


class AttentionSettings(Section):
    """Keys of attention."""

    attn_implementation: str | None = None
    """eager, sdpa, flex_attention, flash_attention_2, flash_attention_3, flash_attention_4, xformers, or a kernel of
    the Hub as ``org/name``. Default: what the model prefers (sdpa, or eager)."""
    flash_attention: bool | None = None
    """Older spelling of ``attn_implementation: flash_attention_2``."""
    sdp_attention: bool | None = None
    """Older spelling of ``attn_implementation: sdpa``."""
    flex_attention: bool | None = None
    """Older spelling of ``attn_implementation: flex_attention``."""
    xformers_attention: bool | None = None
    """Older spelling of ``attn_implementation: xformers``."""
    eager_attention: bool | None = None
    """Older spelling of ``attn_implementation: eager``."""
    sage_attention: bool | None = None
    """Older spelling of ``attn_implementation: sage``."""


class Attention(Feature):
    """Selects the implementation, and refuses one that cannot run here."""

    name = "attention"
    Settings = (AttentionSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always."""
        return True

    def check(self) -> Iterable[Problem]:
        """One way to say it, a known name, and the hardware and package that it needs."""
        flags = [flag for flag in FLAGS if getattr(self.cfg[AttentionSettings], flag)]
        key = "attn_implementation" if self.cfg[AttentionSettings].attn_implementation else (flags or [""])[0]
        if flags and key == "attn_implementation":
            yield self.problem((flags[0], key), "cannot be used with attn_implementation.", f"Remove {flags[0]}.")
        if flags and key != "attn_implementation":
            yield from self._check_flags(flags)
        name = self.implementation()
        if name in SHORT:
            yield self.problem(key, f"{name} is not a name that transformers knows.", f"Write {SHORT[name]}.")
        elif name == "fp8":
            yield self.not_yet(key, name, "Use attn_implementation: sdpa.")
        elif name and needs(name) is None:
            yield self.problem(key, f"unknown implementation {name!r}.", f"Valid: {', '.join(IMPLEMENTATIONS)}.")
        elif name and lacks(self.facts.model_type, name):
            yield self.problem(key, f"{self.facts.model_type} models have no {name}.", "Use eager, or remove it.")
        elif name and (refused := refusal(name, self._asked_of(), half=self._half())):
            yield self.problem(key or "gemma4_hybrid_attn_impl", *refused)

    def _asked_of(self) -> Facts:
        """The facts; without the model where its large heads get another implementation."""
        return replace(self.facts, model=None) if self.cfg.value("gemma4_hybrid_attn_impl") else self.facts

    def _half(self) -> bool:
        """Whether attention computes in 16 bits: mixed precision, or weights of that type."""
        value = self.cfg.value
        if value("float32"):
            return False
        bf16 = value("bf16") in (True, "full") or (value("bf16") == "auto" and self.facts.gpus > 0)
        return bool(bf16 or value("fp16") or value("bfloat16") or value("float16"))

    def _check_flags(self, flags: list[str]) -> Iterable[Problem]:
        """The older flags still work; the first of several wins."""
        chosen = flags[0]
        hint = f"Write attn_implementation: {FLAGS[chosen]}."
        yield self.problem(chosen, "is an older spelling.", hint, kind="warning")
        for flag in flags[1:]:
            yield self.problem(flag, f"has no effect: {chosen} goes first.", "Remove it.", kind="warning")

    def implementation(self) -> str | None:
        """Name for transformers, or None for the model's own choice."""
        return implementation(self.cfg)

    def plan_load(self, plan: LoadPlan) -> None:
        """Pass the name to ``from_pretrained``; what transformers does not know is set on the finished model."""
        name = self.implementation()
        if name == "xformers":
            plan.prepare.append(_use_xformers)
        elif name:
            plan.kwargs.fill(by=self.name, attn_implementation=name)
        # A GPU has kernels that skip what a mask hides.
        if name in (None, "sdpa") and self.cfg.value("sample_packing") and self.facts.known and not self.facts.gpus:
            plan.prepare.append(_use_sdpa_by_sample)


def _use_xformers(model: Any) -> None:
    from newt.models.attention_functions import use_xformers

    use_xformers(model)


def _use_sdpa_by_sample(model: Any) -> None:
    from newt.models.attention_functions import use_sdpa_by_sample

    use_sdpa_by_sample(model)
