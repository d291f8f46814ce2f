"""Quantization with torchao: training that is aware of it, and the format that ``newt quantize`` writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan, TrainPlan

VALID = (
    ("int4", None), ("int4", "int8"), ("int4", "fp8"), ("fp8", "fp8"), ("nvfp4", None), ("nvfp4", "nvfp4"),
    ("mxfp4", None), ("mxfp4", "mxfp4"),
    ("ternary", None), ("ternary", "int8"),
)  # fmt: skip
"""Number types of weights and of activations that models can be quantized to."""

_PAIRS = ", ".join(weight if activation is None else f"{weight} with {activation}" for weight, activation in VALID)

BLOCKS = {"nvfp4": 16, "mxfp4": 32}
"""Weights that share a scale, where the type decides it."""

Dtype = Literal["int4", "int8", "fp8", "float8", "float8_e4m3fn", "nvfp4", "mxfp4"]


class QatConfig(Section):
    """``qat``: how weights and activations are rounded in training."""

    weight_dtype: Dtype | Literal["ternary"] = "int8"
    """Number type of the weights."""
    activation_dtype: Dtype | None = None
    """Number type of the activations. Default: they are not rounded."""
    quantize_embedding: bool = False
    """Also round the embedding."""
    group_size: PositiveInt = 32
    """Weights of int4 that share one scale; nvfp4 has 16, mxfp4 32."""
    fake_quant_after_n_steps: NonNegativeInt | None = None
    """Start to round after this many steps."""


class QuantizationConfig(Section):
    """``quantization``: what ``newt quantize`` writes."""

    weight_dtype: Dtype = "int8"
    """Number type of the weights."""
    activation_dtype: Dtype | None = None
    """Number type of the activations. Default: they are not quantized."""
    quantize_embedding: bool | None = None
    """Also quantize the embedding."""
    group_size: PositiveInt = 32
    """Weights that share one scale."""


class QuantizationSettings(Section):
    """Keys of quantization after training and of training for it."""

    coming: ClassVar[frozenset[str]] = frozenset({"quantization"})

    qat: QatConfig | None = None
    """Round weights and activations in training, so that quantizing the result loses less."""
    quantization: QuantizationConfig | None = None
    """Number types that ``newt quantize`` writes."""


class Qat(Feature):
    """Rounds in the forward pass, and keeps full weights."""

    name = "qat"
    Settings = (QuantizationSettings,)
    off = "qat is not set"
    switches = ("qat", "quantization")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the block is there."""
        return cfg[QuantizationSettings].qat is not None

    def check(self) -> Iterable[Problem]:
        """Full weights that are trained as a whole, and number types that fit."""
        for key in ("adapter", "load_in_8bit", "load_in_4bit", "gptq"):
            if self.cfg.value(key):
                yield self.problem(("qat", key), f"cannot be used with {key}: all weights are trained.", "Remove one.")
        yield from self._check_types()

    def _check_types(self) -> Iterable[Problem]:
        block = self.block
        weight, activation = _short(block.weight_dtype), _short(block.activation_dtype)
        if "qat.weight_dtype" not in self.cfg.given:
            yield self.problem("qat.weight_dtype", "must be said: there is no usual choice.", f"Valid: {_PAIRS}.")
        elif weight == "ternary" and activation not in (None, "int8"):
            yield self.problem("qat.activation_dtype", "must be int8 with weight_dtype: ternary.")
        elif (weight, activation) not in VALID:
            with_ = f"with activation_dtype: {activation}" if activation else "without activation_dtype"
            message = f"{weight} {with_} is not supported."
            yield self.problem(("qat.weight_dtype", "qat.activation_dtype"), message, f"Valid: {_PAIRS}.")
        elif weight in BLOCKS and "qat.group_size" in self.cfg.given and block.group_size != BLOCKS[weight]:
            yield self.problem("qat.group_size", f"{weight} has blocks of {BLOCKS[weight]}.", "Remove it.")

    @property
    def block(self) -> QatConfig:
        """The settings."""
        return self.cfg[QuantizationSettings].qat or QatConfig()

    def plan_load(self, plan: LoadPlan) -> None:
        """Let the layers of the base model round."""
        plan.prepare_base.append(self._prepare)

    def _prepare(self, model: Any, notes: list[str]) -> None:
        from newt.models.fake_quant import activation_rounding, fake_quantize, switch, weight_rounding

        block = self.block
        weight, activation = _short(block.weight_dtype), _short(block.activation_dtype)
        assert weight is not None
        group = BLOCKS.get(weight, block.group_size if weight == "int4" else 1)
        layers = fake_quantize(
            model,
            weight_rounding(weight, group),
            activation_rounding(activation),
            group=group,
            embedding=block.quantize_embedding,
        )
        notes.append(
            f"qat: {layers} linear layers round to {weight}{f' and {activation} inputs' if activation else ''}"
        )
        if block.fake_quant_after_n_steps:
            switch(model, False)

    def plan_train(self, plan: TrainPlan) -> None:
        """Begin later, if that is wanted."""
        after = self.block.fake_quant_after_n_steps
        if after:
            plan.callbacks.append(lambda: _callback(after))


def _callback(after: int) -> Any:
    from newt.training.callbacks.fake_quant import FakeQuant

    return FakeQuant(after)


def _short(dtype: str | None) -> str | None:
    """One name for each number type."""
    return "fp8" if dtype in ("float8", "float8_e4m3fn") else dtype
