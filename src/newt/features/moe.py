"""Mixture-of-experts models: how the experts are computed and held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

BUILT = ("eager", "batched_mm", "grouped_mm")
"""Those of transformers itself."""

TO_COME = ("scattermoe", "sonicmoe", "deep_ep")


class MoeSettings(Section):
    """Keys of mixture-of-experts models."""

    coming: ClassVar[frozenset[str]] = frozenset({"llama4_linearized_experts"})

    experts_implementation: str | None = None
    """How the experts are computed: eager, batched_mm or grouped_mm. Default: what the model prefers."""
    quantize_moe_experts: bool = False
    """Quantize the experts too, each while it is loaded. Needs ``load_in_4bit`` or ``load_in_8bit``. ``false``: leave
    them in 16 bits knowingly."""
    llama4_linearized_experts: bool | None = None
    """Split Llama 4's fused experts into linear layers, so that they can be quantized and get an adapter."""


class Moe(Feature):
    """Selects the implementation of the experts."""

    name = "moe"
    Settings = (MoeSettings,)
    off = "no key of experts asks for anything"
    switches = ("experts_implementation", "quantize_moe_experts", "llama4_linearized_experts")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys asks for something."""
        return any(getattr(cfg[MoeSettings], key) for key in cls.switches)

    def check(self) -> Iterable[Problem]:
        """A known implementation, and an adapter on experts that can be quantized."""
        settings = self.cfg[MoeSettings]
        name = settings.experts_implementation
        if name in TO_COME:
            yield self.not_yet("experts_implementation", name, "Use grouped_mm.")
        elif name and name not in BUILT:
            hint = f"Valid: {', '.join(BUILT)}."
            yield self.problem("experts_implementation", f"unknown implementation {name!r}.", hint)
        if settings.quantize_moe_experts:
            yield from self._check_quantized()
        kind = self.facts.model_type
        if settings.llama4_linearized_experts and kind and not kind.startswith("llama4"):
            yield self.problem("llama4_linearized_experts", f"the base model is a {kind} model.", "Remove it.")

    def _check_quantized(self) -> Iterable[Problem]:
        key, value = "quantize_moe_experts", self.cfg.value
        if value("adapter") not in ("lora", "qlora"):
            yield self.problem((key, "adapter"), "needs a LoRA adapter.", "Set adapter: lora.")
        if not (value("load_in_4bit") or value("load_in_8bit")):
            hint = "Set load_in_4bit: true."
            yield self.problem((key, "load_in_4bit"), "needs load_in_4bit or load_in_8bit.", hint)
        if value("lora_target_linear"):
            hint = "List lora_target_modules, and experts in lora_target_parameters."
            yield self.problem(("lora_target_linear", key), f"cannot be used with {key}.", hint)
        model = self.facts.model or {}
        if isinstance(model.get("quantization_config"), Mapping):
            yield self.problem((key, "base_model"), "the base model's weights are quantized already.", "Remove it.")
        if not value("gradient_checkpointing"):
            message = "without gradient_checkpointing every layer's experts are in memory in full during a step."
            yield self.problem(key, message, "Set gradient_checkpointing: true.", kind="warning")

    def plan_load(self, plan: LoadPlan) -> None:
        """Pass the name to ``from_pretrained``."""
        if name := self.cfg[MoeSettings].experts_implementation:
            plan.kwargs.fill(by=self.name, experts_implementation=name)
