"""Quantization with torchao: training that is aware of it, and the format that ``newt quantize`` writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature

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
    """Weights that share one scale."""
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

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

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
        block = self.cfg[QuantizationSettings].qat
        if block and block.weight_dtype == "ternary" and block.activation_dtype not in (None, "int8"):
            yield self.problem("qat.activation_dtype", "must be int8 with weight_dtype: ternary.")
