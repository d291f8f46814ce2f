"""Dion: orthonormal updates of low rank. https://arxiv.org/abs/2504.05295, algorithm 1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Dion(Optimizer):
    """Updates matrices with an orthonormal factor of their momentum, found by one power iteration in each step.

    With the momentum ``M`` (m x n) and the right factor ``Q`` (n x r) of the step before: ``B = M + G``,
    ``P = orth(B Q)``, ``R = B' P``, ``M = B - (1 - mu) P R'`` (what the update did not use stays in the momentum),
    ``Q = R`` with columns of length 1, ``w -= lr sqrt(m / n) P Q'``.

    Args:
        params: matrices, or groups of them.
        lr: learning rate.
        weight_decay: share of ``lr`` by which weights shrink.
        momentum: mu.
        rank_fraction: r as a share of the smaller side.
        rank_multiple_of: r is rounded up to a multiple of this.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.01,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        rank_fraction: float = 1.0,
        rank_multiple_of: int = 1,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "rank_fraction": rank_fraction}
        super().__init__(params, {**defaults, "rank_multiple_of": rank_multiple_of})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the matrices that have a gradient."""
        for group in self.param_groups:
            for number, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad.float(), group, number)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any], number: int) -> None:
        state = self.state[weight]
        rows, columns = weight.shape
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
            state["factor"] = _first_factor(columns, rank(rows, columns, group), number).to(gradient.device)
        total = state["momentum"].add_(gradient)
        left, _ = torch.linalg.qr(total @ state["factor"])
        right = total.T @ left
        total.addmm_(left, right.T, alpha=group["momentum"] - 1)
        factor = right / right.norm(dim=0, keepdim=True).clamp(min=1e-7)
        state["factor"].copy_(factor)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_((left @ factor.T).to(weight.dtype), alpha=-group["lr"] * math.sqrt(rows / columns))


def rank(rows: int, columns: int, group: dict[str, Any]) -> int:
    """Rank of the update of a matrix, at most its smaller side."""
    smaller, multiple = min(rows, columns), int(group["rank_multiple_of"])
    wanted: int = math.ceil(group["rank_fraction"] * smaller / multiple) * multiple
    return min(smaller, max(1, wanted))


def _first_factor(columns: int, size: int, number: int) -> Tensor:
    """A random factor that does not depend on what was drawn before."""
    generator = torch.Generator().manual_seed(number)
    drawn: Tensor = torch.randn(columns, size, generator=generator)
    length: Tensor = drawn.norm(dim=0, keepdim=True)
    return drawn / length
