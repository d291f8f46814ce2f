"""GaLore with moments of 8 bits, on today's bitsandbytes. https://arxiv.org/abs/2403.03507"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from bitsandbytes.optim import AdamW
from galore_torch.galore_projector import GaLoreProjector
from torch import Tensor


class GaLoreAdamW8bit(AdamW):  # type: ignore[misc]
    """AdamW of 8 bits; gradients of groups that have a ``rank`` are projected, and the update is projected back.

    Groups with a rank also have ``update_proj_gap``, ``scale`` and ``proj_type``.

    Args:
        params: parameter groups.
        lr: learning rate.
        betas: decay of the moments.
        eps: added to the denominator.
        weight_decay: share of ``lr`` by which weights shrink.
        min_8bit_size: moments with fewer numbers are kept in 32 bits.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        min_8bit_size: int = 4096,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, optim_bits=8, min_8bit_size=min_8bit_size)

    @torch.no_grad()
    def init_state(self, group: dict[str, Any], p: Tensor, gindex: int, pindex: int) -> None:
        """Make the moments, in the shape of the projected gradient."""
        if "rank" not in group:
            super().init_state(group, p, gindex, pindex)
            return
        projector = GaLoreProjector(
            group["rank"], update_proj_gap=group["update_proj_gap"], scale=group["scale"], proj_type=group["proj_type"]
        )
        with _in_place_of(p, projector.project(p.grad, 0)):
            super().init_state(group, p, gindex, pindex)
        self.state[p]["projector"] = projector

    @torch.no_grad()
    def update_step(self, group: dict[str, Any], p: Tensor, gindex: int, pindex: int) -> None:
        """Update a parameter: the weight decay is of the weight, not of the projected update."""
        if "rank" not in group:
            super().update_step(group, p, gindex, pindex)
            return
        projector, step = self.state[p]["projector"], self.state[p]["step"]
        with _in_place_of(p, projector.project(p.grad, step)) as update:
            super().update_step({**group, "weight_decay": 0.0}, p, gindex, pindex)
        p.add_(projector.project_back(update))
        p.mul_(1 - group["lr"] * group["weight_decay"])


@contextmanager
def _in_place_of(parameter: Tensor, gradient: Tensor) -> Iterator[Tensor]:
    """Let a parameter be zeros in the shape of a projected gradient; what is added to them is the update."""
    weight, whole = parameter.data, parameter.grad
    update = torch.zeros_like(gradient, dtype=weight.dtype)
    parameter.grad = None
    parameter.data, parameter.grad = update, gradient.to(weight.dtype)
    try:
        yield update
    finally:
        parameter.grad = None
        parameter.data, parameter.grad = weight, whole
