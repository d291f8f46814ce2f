"""Cross-entropy from hidden states and output weights: the logits never exist as a whole.

Each chunk of rows is multiplied with the output weights, its loss and its gradient are computed at once, and its logits
are dropped. That is the arithmetic of the plain loss (as many matrix products, none is repeated) at the memory of one
chunk. A frozen output layer gets no gradient and costs one product less.

Extra memory is what lives at the peak beside the inputs and the gradients that are handed on, as they do with the
plain loss, and beside two tensors of the size of the weight where they are needed: its copy in the type of the
products, which autocast makes for the plain loss too, and the float32 sum of a gradient that is handed on in 16 bits.
On the CPU it is at most :data:`SHARE` of all logits in float32, or what :data:`LEAST_ROWS` tokens need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

CPU_ELEMENTS = 3 << 22
"""Logits of a chunk on the CPU (48 MiB in float32): less would slow the products down."""

SHARE = 0.05
"""A chunk on the CPU takes at most this share of the bytes of all logits in float32."""

LEAST_ROWS = 64
"""Rows of a chunk, at least: with fewer, reading the weight and its gradient takes longer than the products."""

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

    def apply_(self, logits: Tensor) -> Tensor | None:
        """The same in place; gives what a cap multiplies the gradient by, None without a cap.

        Args:
            logits: float32.
        """
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if not self.softcap:
            return None
        capped = logits.div_(self.softcap).tanh_().clone()
        logits.mul_(self.softcap)
        return capped.square_().neg_().add_(1.0)


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
    dtype = hidden.dtype if dtype is None else dtype
    total: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, bias, (kept, targets[kept]), rule, dtype
    )
    return total


class _LinearCrossEntropy(torch.autograd.Function):
    """With p = softmax(z): d loss / d z = p - onehot(target), carried on to hidden states, weight and bias."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        counted: tuple[Tensor, Tensor],
        rule: LogitRule,
        dtype: torch.dtype,
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            sums = _Sums(hidden, weight, bias, ctx.needs_input_grad)
            products = weight.to(dtype)
            offset = None if bias is None else bias.to(dtype)
            size = _rows(hidden, weight, dtype, rule)
            for rows, targets in zip(*(torch.split(part, size) for part in counted), strict=True):
                sums.add(hidden[rows].to(dtype), (products, offset), targets, rows, rule)
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
        self.hidden = torch.zeros_like(hidden) if wanted[0] else None
        self.weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        self.bias = hidden.new_zeros(len(weight), dtype=torch.float32) if wanted[2] else None

    def add(
        self, part: Tensor, layer: tuple[Tensor, Tensor | None], targets: Tensor, rows: Tensor, rule: LogitRule
    ) -> None:
        """Add the loss and the gradients of a chunk.

        Args:
            part: hidden states of the chunk, in the type of the products.
            layer: weight and bias in that type.
            targets: of the chunk.
            rows: numbers of the hidden states.
            rule: what the model does with the product.
        """
        # A product in float32 is its own buffer; one in 16 bits is dropped at once.
        slope = self.add_loss(linear(part, *layer).float(), targets, rule)
        if slope is not None:
            slope = slope.to(part.dtype)
            self.add_gradients(slope, part, layer[0], rows)

    def add_loss(self, values: Tensor, targets: Tensor, rule: LogitRule) -> Tensor | None:
        """Add a chunk's loss; the gradient of its logits, float32, if any is wanted.

        Args:
            values: product of hidden states and weight, float32; overwritten: a chunk's logits exist once.
            targets: (rows,).
            rule: what the model does with the product.
        """
        index = targets.unsqueeze(1)
        bend = rule.apply_(values)
        highest = values.amax(-1, keepdim=True)
        chosen = values.gather(1, index)
        sums = values.sub_(highest).exp_().sum(-1, keepdim=True)
        self.total += (sums.log() + highest - chosen).sum()
        if not self.any:
            return None
        slope = values.div_(sums)
        slope.scatter_add_(1, index, torch.full_like(chosen, -1.0))
        if bend is not None:
            slope.mul_(bend)
        return slope if rule.scale == 1.0 else slope.mul_(rule.scale)

    def add_gradients(self, slope: Tensor, part: Tensor, weight: Tensor, rows: Tensor) -> None:
        """Carry the gradient of a chunk's logits on."""
        if self.hidden is not None:
            self.hidden[rows] = (slope @ weight).to(self.hidden.dtype)
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


def _rows(hidden: Tensor, weight: Tensor, dtype: torch.dtype, rule: LogitRule) -> int:
    """Rows in a chunk."""
    if hidden.device.type != "cpu":
        return max(1, GPU_ELEMENTS // len(weight))
    # A logit and its gradient are one float32 number, beside it stands its product in 16 bits, and the slope of a cap.
    cell = 4 + (dtype.itemsize if dtype.itemsize < 4 else 0) + (4 if rule.softcap else 0)
    # A tenth of the share is left for what is as long as a row of hidden states.
    allowed = int(0.9 * SHARE * len(hidden) * 4 / cell)
    return max(LEAST_ROWS, min(CPU_ELEMENTS // len(weight), allowed))
