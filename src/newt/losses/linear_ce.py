"""Cross-entropy from hidden states and output weights: the logits never exist as a whole.

Each chunk of rows is multiplied with the output weights, its loss and its gradient are computed at once, and its logits
are dropped. That is the arithmetic of the plain loss (as many matrix products, none is repeated) at the memory of one
chunk. A frozen output layer gets no gradient and costs one product less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

CPU_ELEMENTS = 3 << 22
"""Logits of a chunk on the CPU (48 MiB in float32): less would slow the products down."""

GPU_ELEMENTS = 1 << 27
"""Logits of a chunk on a GPU (512 MiB), where small products leave it idle."""

VOCABULARY_BLOCK = 1 << 11
"""Rows of the weight gradient that are added at one time where products are in 16 bits and sums in 32: larger blocks
leave the CPU's caches."""


@dataclass(frozen=True)
class LogitRule:
    """What a model does with the product of hidden states and output weights.

    Attributes:
        scale: factor of the logits (Cohere's ``logit_scale``, one over Granite's ``logits_scaling``).
        softcap: c of ``c * tanh(logits / c)`` after the scaling (Gemma 2), or None.
    """

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits as the model gives them, float32."""
        logits = logits.float() * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    *,
    rule: LogitRule = LogitRule(),
    dtype: torch.dtype | None = None,
    ignored: int = -100,
) -> Tensor:
    """Sum of the cross-entropy of ``rule(hidden @ weight.T + bias)`` over the rows whose target is not ``ignored``.

    Rows that do not count are never multiplied. Softmax and sums are in float32. Gradients can be taken once.

    Args:
        hidden: (tokens, hidden).
        weight: (vocabulary, hidden).
        targets: (tokens,) int64.
        bias: (vocabulary,) or None.
        rule: what the model does with the product.
        dtype: type of the matrix products; default: that of ``hidden``.
        ignored: target of a row that does not count.

    Returns:
        Scalar float32.
    """
    kept = (targets != ignored).nonzero().flatten()
    hidden, targets = hidden[kept], targets[kept]
    dtype = hidden.dtype if dtype is None else dtype
    total: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, rule, dtype)  # type: ignore[no-untyped-call]
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    """With p = softmax(z): d loss / d z = p - onehot(target), carried on to hidden states, weight and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        rule: LogitRule,
        dtype: torch.dtype,
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            sums = _Sums(hidden, weight, bias, ctx.needs_input_grad)
            products = weight.to(dtype)
            offset = None if bias is None else bias.to(dtype)
            rows = _rows(hidden, weight)
            for begin in range(0, len(hidden), rows):
                part = hidden[begin : begin + rows].to(dtype)
                slope = sums.add_loss(linear(part, products, offset), targets[begin : begin + rows], rule)
                if slope is not None:
                    sums.add_gradients(slope.to(dtype), part, products, begin)
        ctx.sums = sums
        return sums.total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        sums, ctx.sums = ctx.sums, None
        if sums is None:
            raise RuntimeError("the gradients of linear_cross_entropy can be taken only once")
        return (*sums.scaled(outputs[0]), None, None, None)


class _Sums:
    """The loss and the gradients that grow from chunk to chunk.

    Kept as attributes, not as saved tensors: they are results, and must not be moved to the CPU with the activations.
    """

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: tuple[bool, ...]) -> None:
        self.types = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        self.total = hidden.new_zeros((), dtype=torch.float32)
        self.any = any(wanted[:3])
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        self.weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        self.bias = hidden.new_zeros(len(weight), dtype=torch.float32) if wanted[2] else None

    def add_loss(self, logits: Tensor, targets: Tensor, rule: LogitRule) -> Tensor | None:
        """Add a chunk's loss; the gradient of its logits, float32, if any is wanted."""
        index = targets.unsqueeze(1)
        values = rule(logits) if rule != LogitRule() else logits.float()
        capped = values.clone() if rule.softcap and self.any else None
        # In place from here on: a chunk's logits exist once.
        highest = values.amax(-1, keepdim=True)
        chosen = values.gather(1, index)
        sums = values.sub_(highest).exp_().sum(-1, keepdim=True)
        self.total += (sums.log() + highest - chosen).sum()
        if not self.any:
            return None
        slope = values.div_(sums)
        slope.scatter_add_(1, index, torch.full_like(chosen, -1.0))
        if capped is not None and rule.softcap:
            slope.mul_(capped.div_(rule.softcap).square_().neg_().add_(1.0))
        return slope if rule.scale == 1.0 else slope.mul_(rule.scale)

    def add_gradients(self, slope: Tensor, part: Tensor, weight: Tensor, begin: int) -> None:
        """Carry the gradient of a chunk's logits on."""
        if self.hidden is not None:
            self.hidden[begin : begin + len(part)] = slope @ weight
        if self.bias is not None:
            self.bias += slope.sum(0, dtype=torch.float32)
        if self.weight is None:
            return
        if slope.dtype == torch.float32:
            self.weight.addmm_(slope.t(), part)
            return
        for first in range(0, slope.shape[1], VOCABULARY_BLOCK):
            block = slice(first, first + VOCABULARY_BLOCK)
            self.weight[block] += slope[:, block].t() @ part

    def scaled(self, factor: Tensor) -> list[Tensor | None]:
        """The gradients of hidden states, weight and bias, times the gradient of the sum."""
        found = zip((self.hidden, self.weight, self.bias), self.types, strict=True)
        return [None if value is None else value.mul_(factor).to(dtype) for value, dtype in found]


def _rows(hidden: Tensor, weight: Tensor) -> int:
    """Rows in a chunk."""
    elements = CPU_ELEMENTS if hidden.device.type == "cpu" else GPU_ELEMENTS
    return max(1, elements // len(weight))
