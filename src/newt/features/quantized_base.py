"""Quantized base models: an adapter is trained on a frozen model whose weights take 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from newt.config.core import Model
from newt.config.section import Config, Problem, Section
from newt.extend import Feature

BITS = ("load_in_8bit", "load_in_4bit")
KINDS = (*BITS, "gptq", "model_quantization_config", "use_onebitllms")


class QuantizedBaseSettings(Section):
    """Keys of quantized base models."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    load_in_8bit: bool = False
    """Load the base model in 8 bits (bitsandbytes). Needs an adapter."""
    load_in_4bit: bool = False
    """Load the base model in 4 bits (bitsandbytes). Needs an adapter; ``adapter: qlora`` needs it."""
    bnb_config_kwargs: dict[str, Any] | None = None
    """Further arguments of ``BitsAndBytesConfig``, such as ``bnb_4bit_quant_type``."""
    gptq: bool | None = None
    """The base model was quantized by GPTQ."""
    model_quantization_config: Literal["Mxfp4Config", "FineGrainedFP8Config"] | None = None
    """Quantization class of transformers that reads the base model's weights."""
    model_quantization_config_kwargs: dict[str, Any] | None = None
    """Its arguments, such as ``dequantize: true``."""
    use_onebitllms: bool | None = None
    """Train a BitNet model, whose weights have three values. Not with an adapter."""


class QuantizedBase(Feature):
    """Quantizes while loading. One way only, and never weights that are trained themselves."""

    name = "quantized base"
    Settings = (QuantizedBaseSettings,)
    off = "the base model is not loaded in 4 or 8 bits"
    switches = KINDS

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of its kinds is asked for; qlora asks for 4 bits."""
        return any(getattr(cfg[QuantizedBaseSettings], key) for key in KINDS) or cfg.value("adapter") == "qlora"

    def check(self) -> Iterable[Problem]:
        """One kind, with the adapter that it needs, on a model that fits."""
        settings, adapter = self.cfg[QuantizedBaseSettings], self.cfg.value("adapter")
        asked = [key for key in KINDS if getattr(settings, key)]
        for key in asked[1:]:
            yield self.problem((key, asked[0]), f"cannot be used with {asked[0]}.", "Keep one of them.")
        for key in asked:
            if key in (*BITS, "gptq") and not adapter:
                hint = "Set adapter: lora, or remove it."
                yield self.problem((key, "adapter"), "quantized weights cannot be trained.", hint)
        if adapter == "qlora":
            yield from self._check_qlora()
        if adapter and settings.use_onebitllms:
            yield self.problem(("use_onebitllms", "adapter"), "cannot be used with an adapter.", "Remove one.")
        yield from self._check_arguments()
        if settings.gptq:
            yield from self._check_gptq()

    def _check_qlora(self) -> Iterable[Problem]:
        settings = self.cfg[QuantizedBaseSettings]
        if not settings.load_in_4bit and not settings.load_in_8bit and not settings.gptq:
            yield self.problem(("load_in_4bit", "adapter"), "qlora needs it.", "Set load_in_4bit: true.")
        for key in ("load_in_8bit", "gptq"):
            if getattr(settings, key):
                yield self.problem((key, "adapter"), "cannot be used with qlora.", "Use adapter: lora.")

    def _check_arguments(self) -> Iterable[Problem]:
        settings = self.cfg[QuantizedBaseSettings]
        if settings.bnb_config_kwargs and not (settings.load_in_4bit or settings.load_in_8bit):
            yield self.problem(("bnb_config_kwargs", "load_in_4bit"), "has no effect without load_in_4bit.", "Set it.")
        if settings.model_quantization_config_kwargs and not settings.model_quantization_config:
            message = "has no effect without model_quantization_config."
            yield self.problem("model_quantization_config_kwargs", message, "Remove it.")
        efficient = getattr(self.cfg.value("fsdp_config"), "cpu_ram_efficient_loading", None)
        if settings.model_quantization_config == "Mxfp4Config" and efficient:
            yield self.problem(
                ("fsdp_config.cpu_ram_efficient_loading", "model_quantization_config"),
                "cannot be used with Mxfp4Config.",
                "Set it to false.",
            )

    def _check_gptq(self) -> Iterable[Problem]:
        if self.cfg[Model].revision_of_model:
            yield self.problem(("revision_of_model", "gptq"), "cannot be used with gptq.", "Remove it.")
        if self.facts.model is None:
            return
        found = self.facts.model.get("quantization_config")
        method = found.get("quant_method") if isinstance(found, Mapping) else None
        if method != "gptq":
            message = f"the base model is quantized by {method}." if method else "the base model is not quantized."
            yield self.problem(("gptq", "base_model"), message, "Remove it.")
