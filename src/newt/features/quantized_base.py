"""Quantized base models: an adapter is trained on a frozen model whose weights take 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from newt.config.core import Model
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

BITS = ("load_in_8bit", "load_in_4bit")
KINDS = (*BITS, "gptq", "model_quantization_config", "use_onebitllms")
HEADS = ("lm_head", "embed_out")
"""Output layers. A list of modules to skip replaces the one that transformers makes, in which they are."""

SKIPS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("falcon_h1", "load_in_4bit"): ("out_proj",),
    ("falcon_h1", "load_in_8bit"): ("out_proj",),
    ("jamba", "load_in_8bit"): ("mamba",),
}
"""(model type, key) -> modules whose kernels read the weight itself, so that it must stay as it is."""

STORED_IN_FLOAT32 = ("jamba", "qwen2_moe", "nemotron_h")
BNB_ARGUMENTS = (
    "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant",
    "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight", "llm_int8_skip_modules", "llm_int8_threshold",
)  # fmt: skip
CLASS_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "Mxfp4Config": ("dequantize", "modules_to_not_convert"),
    "FineGrainedFP8Config": (
        "activation_scheme", "dequantize", "expert_dtype", "modules_to_convert", "modules_to_not_convert", "scale_fmt",
        "weight_block_size",
    ),
    "CompressedTensorsConfig": ("dequantize",),
}  # fmt: skip
"""Arguments of each class: transformers passes over those that it does not know."""

STORED_AS = {
    "Mxfp4Config": ("mxfp4",),
    "FineGrainedFP8Config": ("fp8", "mxfp8"),
    "CompressedTensorsConfig": ("compressed-tensors",),
}
OWN_LINEAR = {"falcon": "FalconLinear"}
"""Model type -> a class of linear layers that bitsandbytes passes by, as it is derived from that of torch."""
IN_FULL = "model_quantization_config_kwargs: {dequantize: true}"
PACKAGE = "compressed-tensors"
EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
GPTQ_PACKAGES = ("gptqmodel", "optimum")


class QuantizedBaseSettings(Section):
    """Keys of quantized base models."""

    coming: ClassVar[frozenset[str]] = frozenset({"use_onebitllms"})

    load_in_8bit: bool = False
    """Load the base model in 8 bits (bitsandbytes). Needs an adapter."""
    load_in_4bit: bool = False
    """Load the base model in 4 bits (bitsandbytes). Needs an adapter; ``adapter: qlora`` needs it."""
    bnb_config_kwargs: dict[str, Any] | None = None
    """Further arguments of ``BitsAndBytesConfig``, such as ``bnb_4bit_quant_type``. Default in 4 bits: NF4, double
    quantization, arithmetic in the run's number format, storage as bfloat16."""
    gptq: bool | None = None
    """The base model was quantized by GPTQ."""
    model_quantization_config: Literal["Mxfp4Config", "FineGrainedFP8Config", "CompressedTensorsConfig"] | None = None
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

    @property
    def settings(self) -> QuantizedBaseSettings:
        """The keys of this feature."""
        return self.cfg[QuantizedBaseSettings]

    @property
    def bits(self) -> str | None:
        """The key of bitsandbytes that is on."""
        return next((key for key in BITS if getattr(self.settings, key)), None)

    @property
    def stored(self) -> str | None:
        """How the checkpoint's weights are quantized, such as ``gptq``; None: they are not, or it is not known."""
        found = (self.facts.model or {}).get("quantization_config")
        return str(found.get("quant_method", "unknown")) if isinstance(found, Mapping) else None

    # ----------------------------------------------------------------------- checks

    def check(self) -> Iterable[Problem]:
        """One kind, with the adapter that it needs, on a model that fits."""
        settings, adapter = self.settings, self.cfg.value("adapter")
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
        yield from self._check_class()
        if settings.gptq:
            yield from self._check_gptq()
        if self.bits:
            yield from self._check_bits(self.bits)

    def _check_qlora(self) -> Iterable[Problem]:
        settings = self.settings
        if not settings.load_in_4bit and not settings.load_in_8bit and not settings.gptq:
            yield self.problem(("load_in_4bit", "adapter"), "qlora needs it.", "Set load_in_4bit: true.")
        for key in ("load_in_8bit", "gptq"):
            if getattr(settings, key):
                yield self.problem((key, "adapter"), "cannot be used with qlora.", "Use adapter: lora.")

    def _check_arguments(self) -> Iterable[Problem]:
        settings = self.settings
        if settings.bnb_config_kwargs and not (settings.load_in_4bit or settings.load_in_8bit):
            yield self.problem(("bnb_config_kwargs", "load_in_4bit"), "has no effect without load_in_4bit.", "Set it.")
        elif settings.bnb_config_kwargs:
            yield from self._check_known("bnb_config_kwargs", settings.bnb_config_kwargs, BNB_ARGUMENTS)
            kind = settings.bnb_config_kwargs.get("bnb_4bit_quant_type", "nf4")
            if kind not in ("nf4", "fp4"):
                key = "bnb_config_kwargs.bnb_4bit_quant_type"
                yield self.problem(key, f"unknown kind {kind!r}.", "Valid: nf4, fp4.")

    def _check_known(self, key: str, given: Mapping[str, Any], known: tuple[str, ...]) -> Iterable[Problem]:
        for name in given:
            if name not in known:
                yield self.problem(f"{key}.{name}", "unknown argument.", f"Valid: {', '.join(known)}.")

    def _check_class(self) -> Iterable[Problem]:
        settings = self.settings
        name, given = settings.model_quantization_config, settings.model_quantization_config_kwargs
        if name is None:
            if given:
                message = "has no effect without model_quantization_config."
                yield self.problem("model_quantization_config_kwargs", message, "Remove it.")
            return
        yield from self._check_known("model_quantization_config_kwargs", given or {}, CLASS_ARGUMENTS[name])
        efficient = getattr(self.cfg.value("fsdp_config"), "cpu_ram_efficient_loading", None)
        if name == "Mxfp4Config" and efficient:
            yield self.problem(
                ("fsdp_config.cpu_ram_efficient_loading", "model_quantization_config"),
                "cannot be used with Mxfp4Config.",
                "Set it to false.",
            )
        yield from self._check_stored_as(name, bool((given or {}).get("dequantize")))

    def _check_stored_as(self, name: str, dequantize: bool) -> Iterable[Problem]:
        """The class reads what the checkpoint holds, and the weights can be trained as they are then."""
        keys = ("model_quantization_config", "base_model")
        if self.stored not in (None, *STORED_AS[name]):
            yield self.problem(keys, f"the base model's weights are quantized by {self.stored}.", "Remove it.")
        elif self.facts.model is not None and self.stored is None:
            yield self.problem(keys, f"the base model's weights are not stored as {STORED_AS[name][0]}.", "Remove it.")
        elif name == "CompressedTensorsConfig" and not dequantize:
            message = "compressed weights pass no gradient, or take no adapter."
            yield self.problem(keys[0], message, f"Set {IN_FULL}, which gives them back in full.")
        elif name == "CompressedTensorsConfig" and self.facts.known and PACKAGE not in self.facts.packages:
            yield self.problem(keys[0], f"needs the package {PACKAGE}.", f"pip install '{PACKAGE}>=0.15'")
        elif self.facts.known and not self.facts.gpus and not dequantize:
            message = "weights in this format need a GPU, and there is none."
            yield self.problem(keys[0], message, f"Set {IN_FULL}, which gives them back in full.")
        elif not self.cfg.value("adapter") and not dequantize:
            hint = f"Set adapter: lora, or {IN_FULL}."
            yield self.problem((keys[0], "adapter"), "quantized weights cannot be trained.", hint)

    def _check_gptq(self) -> Iterable[Problem]:
        if self.cfg[Model].revision_of_model:
            yield self.problem(("revision_of_model", "gptq"), "cannot be used with gptq.", "Remove it.")
        if self.facts.model is None:
            return
        if self.stored != "gptq":
            what = f"quantized by {self.stored}" if self.stored else "not quantized"
            yield self.problem(("gptq", "base_model"), f"the base model is {what}.", "Remove it.")
        elif self.facts.known:
            missing = [package for package in GPTQ_PACKAGES if package not in self.facts.packages]
            if missing:
                hint = f"pip install {' '.join(missing)}."
                yield self.problem("gptq", f"needs the packages {' and '.join(missing)}.", hint)

    def _check_bits(self, key: str) -> Iterable[Problem]:
        if own := OWN_LINEAR.get(self.facts.model_type or ""):
            message = f"bitsandbytes quantizes none of this model's layers, which are of the class {own}."
            yield self.problem(key, message, "Remove it, and use adapter: lora.")
        if self.facts.known and "bitsandbytes" not in self.facts.packages:
            yield self.problem(key, "needs the package bitsandbytes.", "pip install 'newt-tune[bnb]'")
        if self.cfg[Model].reinit_weights:
            message = f"cannot be used with {key}: random weights would be quantized and never trained."
            yield self.problem(("reinit_weights", key), message, "Remove one.")
        if self.cfg.value("bf16") == "full":
            yield self.problem(("bf16", key), f"full cannot be used with {key}.", "Use bf16: true.")
        init = self.cfg.value("peft_init_lora_weights")
        if isinstance(init, str) and init.startswith(("pissa", "olora", "corda", "lora_ga")):
            message = f"{init} takes a part out of the base's weights, which {key} would round again."
            yield self.problem(("peft_init_lora_weights", key), message, "Use gaussian or orthogonal.")
        if self.stored not in (None, "bitsandbytes", "gptq"):
            message = f"the base model's weights are quantized already, by {self.stored}."
            yield self.problem((key, "base_model"), message, "Remove it.")
        elif self.stored == "gptq" and not self.settings.gptq:
            yield self.problem(
                (key, "base_model"), "the base model's weights are quantized by gptq.", "Use gptq: true."
            )
        yield from self._check_experts(key)

    def _check_experts(self, key: str) -> Iterable[Problem]:
        """transformers holds experts in one parameter a layer, which bitsandbytes does not quantize."""
        found = expert_sizes(self.facts.model or {})
        if found is None or self.cfg.value("quantize_moe_experts"):
            return
        share = found[0] / found[1]
        size = f"about {share:.0%} of this model's parameters, {2 * found[0] / 2**30:.1f} GiB"
        message = f"{key} leaves the experts in 16 bits: {size}."
        keys = ("quantize_moe_experts", key)
        if "quantize_moe_experts" in self.cfg.given:
            yield self.problem(keys, message, kind="warning")
        elif share > 0.5:
            yield self.problem(keys, message, "Set quantize_moe_experts: true, or false if it is meant so.")
        else:
            yield self.problem(keys, message, "quantize_moe_experts: true quantizes them too.", kind="warning")

    # ----------------------------------------------------------------------- loading

    def plan_load(self, plan: LoadPlan) -> None:
        """Fill the quantization slot. A checkpoint that is quantized already says itself how it is read."""
        settings, stored = self.settings, self.stored
        if self.bits and stored is None:
            plan.quantization.fill(lambda: self._bitsandbytes(plan.kwargs.get("dtype", "float32")), by=self.name)
        elif name := settings.model_quantization_config:
            given = settings.model_quantization_config_kwargs or {}
            plan.quantization.fill(lambda: _named(name, given), by=self.name)
        elif settings.gptq:
            plan.quantization.fill(lambda: _named("GPTQConfig", {"bits": 4}), by=self.name)

    def _bitsandbytes(self, dtype: str) -> Any:
        from newt.models.quantize import bitsandbytes_config

        return bitsandbytes_config(self.arguments(dtype), experts=bool(self.cfg.value("quantize_moe_experts")))

    def arguments(self, dtype: str) -> dict[str, Any]:
        """Keyword arguments of ``BitsAndBytesConfig``.

        Args:
            dtype: number type of the arithmetic, such as ``bfloat16``.
        """
        kind = self.facts.model_type or ""
        given = dict(self.settings.bnb_config_kwargs or {})
        skip = [*SKIPS.get((kind, self.bits or ""), ()), *(given.pop("llm_int8_skip_modules", None) or ())]
        arguments: dict[str, Any] = {"llm_int8_threshold": 6.0}
        if self.settings.load_in_8bit:
            arguments["load_in_8bit"] = True
        else:
            sharded = self.cfg.value("deepspeed") or self.cfg.value("fsdp_config")
            in_float32 = kind in STORED_IN_FLOAT32 and not sharded
            arguments |= {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True,
                "bnb_4bit_compute_dtype": dtype,
                "bnb_4bit_quant_storage": "float32" if in_float32 else "bfloat16",
            }
        if skip:
            arguments["llm_int8_skip_modules"] = list(dict.fromkeys([*skip, *HEADS]))
        return {**arguments, **given}


def _named(name: str, given: Mapping[str, Any]) -> Any:
    from newt.models.quantize import named_config

    return named_config(name, given)


def expert_sizes(model: Mapping[str, Any]) -> tuple[int, int] | None:
    """(parameters of a model's experts, all its parameters), estimated from config.json. None without experts."""
    inner_config = model.get("text_config")
    text = inner_config if isinstance(inner_config, Mapping) else model
    count = max((text[key] for key in EXPERT_COUNTS if isinstance(text.get(key), int)), default=0)
    inner = text.get("moe_intermediate_size") or text.get("intermediate_size")
    numbers = (text.get("hidden_size"), text.get("num_hidden_layers"), inner, text.get("first_k_dense_replace") or 0)
    if count < 2 or not all(isinstance(number, int) for number in numbers):
        return None
    hidden, layers, inner, dense = (int(number) for number in numbers if number is not None)
    experts = (layers - dense) * count * 3 * hidden * inner
    return experts, experts + 4 * layers * hidden * hidden + 2 * hidden * int(text.get("vocab_size") or 0)
