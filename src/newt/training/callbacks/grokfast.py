"""Grokfast: add a running mean of past gradients to each gradient. https://arxiv.org/abs/2405.20233, algorithm 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

NAME = "grokfast.safetensors"
"""File in a checkpoint."""


class Grokfast(TrainerCallback):  # type: ignore[misc]
    """``mean = alpha mean + (1 - alpha) g``, then ``g += lamb mean``; the first mean is the first gradient.

    Args:
        alpha: share of the mean that is kept.
        lamb: factor with which it is added.
    """

    def __init__(self, alpha: float, lamb: float) -> None:
        self.alpha, self.lamb = alpha, lamb
        self.means: dict[str, Tensor] = {}

    @torch.no_grad()
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Called when the gradients of a step are whole (and clipped)."""
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        # A step whose float16 gradients overflowed is skipped; it must not stay in the means.
        if args.fp16 and not all(bool(gradient.isfinite().all()) for gradient in found.values()):
            return
        for name, gradient in found.items():
            if name not in self.means:
                self.means[name] = gradient.detach().clone()
            mean = self.means[name]
            mean.mul_(self.alpha).add_(gradient, alpha=1 - self.alpha)
            gradient.add_(mean, alpha=self.lamb)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the means into a checkpoint."""
        save_file({name: mean.contiguous() for name, mean in self.means.items()}, folder / NAME)

    def load(self, model: nn.Module, folder: Path) -> None:
        """Read them back, each onto the device of its parameter."""
        stored = load_file(folder / NAME)
        devices = {name: parameter.device for name, parameter in model.named_parameters()}
        self.means = {name: mean.to(devices[name]) for name, mean in stored.items()}
