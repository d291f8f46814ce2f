"""Rows of trained parameters that must stay as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from newt.models.freezing import frozen_rows


class FrozenRows(TrainerCallback):  # type: ignore[misc]
    """Puts frozen rows back after each optimizer step, bit for bit.

    They have no gradient, but weight decay would shrink them, and optimizers that look at a whole matrix would change
    them. A copy of them is held on the device of their parameter.
    """

    def __init__(self) -> None:
        self.held: list[tuple[nn.Parameter, Tensor, Tensor]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Copy the rows; the weights of a checkpoint are loaded already."""
        self.held = []
        for parameter in model.parameters():
            mask = frozen_rows(parameter)
            if mask is not None:
                rows = mask.nonzero().flatten().to(parameter.device)
                self.held.append((parameter, rows, parameter.detach()[rows].clone()))

    @torch.no_grad()
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after the optimizer has changed the weights."""
        for parameter, rows, values in self.held:
            parameter[rows] = values
