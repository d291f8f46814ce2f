"""LoRA on a frozen linear layer as one operation.

y = x W^T + bias + s (x A^T) B^T. Written with layers, the scale, the sum and the two parts of the gradient of x are
passes over whole activations of their own. Here the matrix products add to what is there, and as in the layers only
the input, x A^T and the weights are kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


def fuse_lora(model: nn.Module) -> int:
    """Let the plain LoRA layers of a model compute in one operation; returns how many there are.

    Quantized layers, other shapes and variants such as DoRA stay as they are. Parameters, their names and what is saved
    do not change, so the layers keep their identity and only become instances of :class:`FusedLinear`.
    """
    found = [module for module in model.modules() if type(module) is Linear and _is_plain(module)]
    for module in found:
        module.__class__ = FusedLinear
    return len(found)


def _is_plain(module: Any) -> bool:
    return (
        type(module.base_layer) is nn.Linear
        and not module.lora_variant
        and not any(getattr(layer, "bias", None) is not None for layer in module.lora_B.values())
    )


class FusedLinear(Linear):  # type: ignore[misc]
    """peft's LoRA layer; wherever more is asked of it than one adapter on a frozen weight, peft's own code computes."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(..., in) to (..., out)."""
        names = [name for name in self.active_adapters if name in self.lora_A]
        kind = x.device.type
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else x.dtype
        base: Any = self.base_layer
        more = self.disable_adapters or self.merged or args or kwargs or len(names) != 1
        if more or not self._is_frozen_in(dtype) or not (autocast or self.lora_A[names[0]].weight.dtype == dtype):
            result: Tensor = super().forward(x, *args, **kwargs)
            return result
        name = names[0]
        x = x.to(dtype)
        dropped = self.lora_dropout[name](x)
        bias = None if base.bias is None else base.bias.to(dtype)
        a = self.lora_A[name].weight.to(dtype)
        b = (self.lora_B[name].weight * self.scaling[name]).to(dtype)
        fused: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
            x, None if dropped is x else dropped, base.weight, bias, a, b
        )
        return fused.view(*x.shape[:-1], -1)  # out here: some models change what a layer gives them in place

    def _is_frozen_in(self, dtype: torch.dtype) -> bool:
        weight, bias = self.base_layer.weight, self.base_layer.bias
        return weight.dtype == dtype and not weight.requires_grad and not (bias is not None and bias.requires_grad)


class _LoraLinear(torch.autograd.Function):
    """y = x W^T + bias + (x A^T) B^T, where B has its scale and ``dropped``, if any, stands for x beside A.

    y is (tokens, out), whatever the shape of x.
    With g = dy B: d x = dy W + g A, d A = g^T x, d B = dy^T (x A^T).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dropped: Tensor | None, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor
    ) -> Tensor:
        source = x if dropped is None else dropped
        low = linear(source.reshape(-1, source.shape[-1]), a)
        result = linear(x.reshape(-1, x.shape[-1]), weight, bias).addmm_(low, b.t())
        ctx.save_for_backward(source, low, weight, a, b)
        ctx.shares_input = dropped is None
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        source, low, weight, a, b = ctx.saved_tensors
        slope = outputs[0]
        narrow = slope @ b
        for_x = slope @ weight if ctx.needs_input_grad[0] else None
        for_dropped = None
        if for_x is not None and ctx.shares_input:
            for_x.addmm_(narrow, a)
        elif ctx.needs_input_grad[1]:
            for_dropped = (narrow @ a).view_as(source)
        for_a = narrow.t() @ source.reshape(-1, source.shape[-1]) if ctx.needs_input_grad[4] else None
        for_b = slope.t() @ low if ctx.needs_input_grad[5] else None
        return None if for_x is None else for_x.view_as(source), for_dropped, None, None, for_a, for_b
