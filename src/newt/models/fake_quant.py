"""Linear layers that round in the forward pass as a quantized model would, while their weights stay as they are.

Every number type is emulated in plain torch: the rounded values are those of the real type, held in the type of the
input. The gradient passes through the rounding as if it were not there (https://arxiv.org/abs/1308.3432).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from newt.support.errors import NewtError

Rounding = Callable[[Tensor], Tensor]
"""(..., features) -> the same shape and type, every number replaced by one that the quantized type can hold."""

E4M3_MAX, E2M1_MAX = 448.0, 6.0
"""Largest numbers of the 8-bit and the 4-bit floating point type."""

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What the 4-bit floating point type can hold, besides the sign (OCP Microscaling Formats 1.0, section 5.3.3)."""

E2M1_EVEN = (True, False, True, False, True, False, True, False)
"""Whether the last bit of each is zero: a number in the middle between two goes there."""

LEFT_OUT = ("router", "gate", "shared_expert_gate")
"""Names of layers that stay: routers of experts are small, and their choices sensitive."""


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, rounding: Rounding) -> Tensor:
        return rounding(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def rounded(value: Tensor, rounding: Rounding) -> Tensor:
    """The rounded value, with the gradient of the value."""
    result: Tensor = _StraightThrough.apply(value, rounding)  # type: ignore[no-untyped-call]
    return result


# --------------------------------------------------------------------------- number types


def int4(value: Tensor, group: int) -> Tensor:
    """Whole numbers from -8 to 7 with a scale for each ``group`` neighbours: their largest over 7.5."""
    groups = _blocks(value, group)
    scale = (groups.abs().amax(-1, keepdim=True) / 7.5).clamp(min=torch.finfo(torch.float32).eps)
    return ((groups * (1.0 / scale)).round().clamp(-8, 7) * scale).flatten(-2).to(value.dtype)


def int8_tokens(value: Tensor) -> Tensor:
    """Whole numbers from -128 to 127 with a scale and an offset for each token."""
    number = value.float()
    low = number.amin(-1, keepdim=True).clamp(max=0)
    high = number.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).eps)
    zero = (-128 - (low / scale).round()).clamp(-128, 127)
    whole = ((number * (1.0 / scale)).round() + zero).clamp(-128, 127)
    return ((whole - zero) * scale).to(value.dtype)


def float8_rows(value: Tensor) -> Tensor:
    """float8_e4m3fn with a scale for each row: its largest number over 448."""
    number = value.float()
    scale = (number.abs().amax(-1, keepdim=True) / E4M3_MAX).clamp(min=torch.finfo(torch.float32).tiny)
    return (_e4m3(number / scale) * scale).to(value.dtype)


def nvfp4(value: Tensor) -> Tensor:
    """4-bit floating point with an 8-bit scale for each 16 neighbours, and one float32 scale for the whole tensor."""
    number = value.float()
    whole = (number.abs().amax() / (E4M3_MAX * E2M1_MAX)).clamp(min=torch.finfo(torch.float32).tiny)
    blocks = _blocks(number, 16)
    scale = _e4m3(blocks.abs().amax(-1, keepdim=True) / E2M1_MAX / whole).clamp(min=2.0**-9) * whole
    return (_e2m1(blocks / scale) * scale).flatten(-2).to(value.dtype)


def mxfp4(value: Tensor) -> Tensor:
    """4-bit floating point with a power of two as the scale of each 32 neighbours (OCP Microscaling Formats 1.0)."""
    blocks = _blocks(value, 32)
    largest = blocks.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    exponent = (torch.frexp(largest).exponent - 3).clamp(-127, 127)  # floor(log2(largest)) - 2
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    return (_e2m1(blocks / scale) * scale).flatten(-2).to(value.dtype)


def ternary(value: Tensor) -> Tensor:
    """-1, 0 and 1 times the mean of all magnitudes (https://arxiv.org/abs/2402.17764, equations 1 to 3)."""
    number = value.float()
    scale = number.abs().mean().clamp(min=1e-5)
    return ((number / scale).round().clamp(-1, 1) * scale).to(value.dtype)


def _blocks(value: Tensor, size: int) -> Tensor:
    """float32 (..., features / size, size)."""
    return value.float().reshape(*value.shape[:-1], -1, size)


def _e4m3(value: Tensor) -> Tensor:
    return value.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float()


def _e2m1(value: Tensor) -> Tensor:
    """The nearest number of the type; from the middle to the one whose last bit is zero."""
    levels = torch.tensor(E2M1, device=value.device)
    even = torch.tensor(E2M1_EVEN, device=value.device)
    middles = (levels[1:] + levels[:-1]) / 2
    size = value.abs()
    place = torch.bucketize(size, middles)  # a middle itself goes down
    up = (place < len(middles)) & (size == middles[place.clamp(max=len(middles) - 1)]) & ~even[place]
    return levels[place + up.long()].copysign(value)


def weight_rounding(dtype: str, group: int) -> Rounding:
    """How weights of a number type are rounded.

    Args:
        dtype: int4, fp8, nvfp4, mxfp4 or ternary.
        group: neighbours that share a scale, for int4.
    """
    if dtype == "int4":
        return lambda value: int4(value, group)
    return {"fp8": float8_rows, "nvfp4": nvfp4, "mxfp4": mxfp4, "ternary": ternary}[dtype]


def activation_rounding(dtype: str | None) -> Rounding | None:
    """How activations of a number type are rounded: int8 by token, fp8 by row, nvfp4, mxfp4; None: not at all."""
    return {None: None, "int8": int8_tokens, "fp8": float8_rows, "nvfp4": nvfp4, "mxfp4": mxfp4}[dtype]


# --------------------------------------------------------------------------- layers


class FakeQuantLinear(nn.Linear):
    """A linear layer that rounds its weight, and perhaps its input, as long as it is ``enabled``."""

    weight_rounding: Rounding
    activation_rounding: Rounding | None
    enabled: bool

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.enabled:
            return super().forward(input)
        if self.activation_rounding is not None:
            input = rounded(input, self.activation_rounding)
        return functional.linear(input, rounded(self.weight, self.weight_rounding), self.bias)


class FakeQuantEmbedding(nn.Embedding):
    """An embedding that rounds its weight, as long as it is ``enabled``."""

    weight_rounding: Rounding
    enabled: bool

    def forward(self, input: Tensor) -> Tensor:
        """(...) int64 -> (..., features)."""
        if not self.enabled:
            return super().forward(input)
        return functional.embedding(input, rounded(self.weight, self.weight_rounding), self.padding_idx)


Layer = FakeQuantLinear | FakeQuantEmbedding


def fake_quantize(
    model: Any, weight: Rounding, activation: Rounding | None = None, *, group: int = 1, embedding: bool = False
) -> int:
    """Let the linear layers of a model round; their names and weights stay as they are.

    The output layer and routers of experts are left as they are.

    Args:
        model: a transformers model.
        weight: rounds weights.
        activation: rounds the layers' inputs.
        group: every layer's input must be a multiple of this.
        embedding: also round the input embedding.

    Returns:
        Number of layers.

    Raises:
        NewtError: a layer's input is no multiple of ``group``, or there is no layer.
    """
    head = model.get_output_embeddings()
    chosen: dict[str, Any] = {
        name: layer
        for name, layer in model.named_modules()
        if type(layer) is nn.Linear and layer is not head and name.rpartition(".")[2] not in LEFT_OUT
    }
    for name, layer in chosen.items():
        if layer.in_features % group:
            raise NewtError(f"qat.group_size: {group} does not divide the {layer.in_features} inputs of {name}")
    if not chosen:
        raise NewtError("qat: this model has no linear layer that could be rounded")
    for layer in chosen.values():
        # The same object with another forward pass: whoever holds it, and its weight's name, stay right.
        layer.__class__ = FakeQuantLinear
        layer.weight_rounding, layer.activation_rounding, layer.enabled = weight, activation, True
    if embedding:
        table = model.get_input_embeddings()
        table.__class__ = FakeQuantEmbedding
        table.weight_rounding, table.enabled = weight, True
    return len(chosen)


def switch(model: nn.Module, on: bool) -> int:
    """Let all layers of :func:`fake_quantize` round, or not; gives their number."""
    layers = [layer for layer in model.modules() if isinstance(layer, Layer)]
    for layer in layers:
        layer.enabled = on
    return len(layers)
