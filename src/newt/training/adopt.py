"""ADOPT: Adam that converges with any second decay rate. https://arxiv.org/abs/2411.02853"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class Adopt(Optimizer):
    """ADOPT with decoupled weight decay.

    The gradient is divided by the root of the second moment of the steps *before* it, limited to ``t ** 0.25``, and
    then averaged: ``m = beta1 m + (1 - beta1) clip(g / max(sqrt(v), eps))``, ``w -= lr (m + decay w)``,
    ``v = beta2 v + (1 - beta2) g^2``. The first step only sets ``v = g^2``.

    Args:
        params: parameters or groups.
        lr: learning rate.
        betas: decay of the first and the second moment.
        eps: the least divisor.
        weight_decay: share of ``lr`` by which weights shrink.
        clip: limit the divided gradient.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        clip: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "clip": clip})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    _update(parameter, parameter.grad, self.state[parameter], group)


def _update(parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = torch.tensor(0.0)
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = gradient * gradient
        return
    state["step"] += 1
    beta1, beta2 = group["betas"]
    if group["weight_decay"]:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
    scaled = gradient / state["exp_avg_sq"].sqrt().clamp(min=group["eps"])
    if group["clip"]:
        limit = float(state["step"]) ** 0.25
        scaled.clamp_(-limit, limit)
    state["exp_avg"].lerp_(scaled, 1 - beta1)
    parameter.add_(state["exp_avg"], alpha=-group["lr"])
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
