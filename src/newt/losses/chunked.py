"""Cross-entropy over a large vocabulary without a float32 copy of all logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CHUNK_ELEMENTS = 1 << 26
"""Logits that are in float32 at one time (256 MiB)."""


def chunked_cross_entropy(logits: Tensor, targets: Tensor, ignored: int = -100, chunks: int | None = None) -> Tensor:
    """Sum of the cross-entropy over the rows whose target is not ``ignored``.

    The gradient is computed together with the loss, chunk by chunk, and kept in the type of the logits: the values
    of ``functional.cross_entropy(logits.float(), targets, reduction="sum")`` at the memory of one more set of logits.

    Args:
        logits: (tokens, vocabulary).
        targets: (tokens,) int64.
        ignored: target of a row that does not count.
        chunks: number of chunks; None: as many as keep each below :data:`CHUNK_ELEMENTS`.

    Returns:
        Scalar float32.
    """
    if not (logits.requires_grad and torch.is_grad_enabled()):
        parts = (
            functional.cross_entropy(part.float(), target, ignore_index=ignored, reduction="sum")
            for part, target in _chunks(logits, targets, chunks)
        )
        return torch.stack([*parts, torch.zeros((), device=logits.device)]).sum()
    total: Tensor = _ChunkedCrossEntropy.apply(logits, targets, ignored, chunks)  # type: ignore[no-untyped-call]
    return total


def _chunks(logits: Tensor, targets: Tensor, chunks: int | None) -> list[tuple[Tensor, Tensor]]:
    rows = max(1, -(-len(logits) // chunks) if chunks else CHUNK_ELEMENTS // logits.shape[-1])
    return list(zip(torch.split(logits, rows), torch.split(targets, rows), strict=True))


class _ChunkedCrossEntropy(torch.autograd.Function):
    """d/dx of sum(logsumexp(x) - x[target]) is softmax(x) - onehot(target)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, ignored: int, chunks: int | None) -> Tensor:
        gradient = torch.empty_like(logits)
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        begin = 0
        for part, target in _chunks(logits, targets, chunks):
            counted = target != ignored
            index = target.clamp(min=0).unsqueeze(1)
            log_probabilities = part.float().log_softmax(-1)
            total -= (log_probabilities.gather(1, index).squeeze(1) * counted).sum()
            slope = log_probabilities.exp_()
            slope.scatter_add_(1, index, torch.full_like(index, -1, dtype=torch.float32))
            gradient[begin : begin + len(part)] = slope * counted.unsqueeze(1)
            begin += len(part)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outputs[0], None, None, None
