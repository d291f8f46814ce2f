"""Schedule-free optimizers: training computes at one point, and the model that users want is another, an average.

``optimizer.eval()`` moves the weights from the first to the second, ``optimizer.train()`` back, with rounding. Here
nothing is rounded: after an evaluation or a checkpoint the weights are those of before, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

NAME = "training_point.safetensors"
"""File in a checkpoint: the weights with which training goes on. The model's own files hold the average."""

Weights = dict[str, Tensor]


def averages(optimizer: Any) -> bool:
    """Whether an optimizer is schedule-free and its weights stand at the training point."""
    groups = getattr(optimizer, "param_groups", None) or [{}]
    return bool(groups[0].get("train_mode"))


@contextmanager
def averaged(optimizer: Any, model: nn.Module) -> Iterator[Weights]:
    """Let the model be the average; it is put back afterwards. For all other optimizers: nothing.

    Args:
        optimizer: the optimizer, wrapped or not, or None.
        model: the model that it trains.

    Yields:
        The weights with which training goes on, by name, in CPU memory; empty when they are the model's.
    """
    if optimizer is None or not averages(optimizer):
        yield {}
        return
    # All that it has ever moved: some may be frozen just now.
    moved = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    held = {name: p.detach().to("cpu", copy=True) for name, p in model.named_parameters() if id(p) in moved}
    optimizer.eval()
    try:
        yield held
    finally:
        optimizer.train()
        load_point(model, held)


@torch.no_grad()
def load_point(model: nn.Module, weights: Weights) -> None:
    """Put weights into the model."""
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])


def save_point(weights: Weights, folder: Path) -> None:
    """Write the weights with which training goes on into a checkpoint, if they are not the model's."""
    if weights:
        save_file(weights, folder / NAME)


def restore_point(model: nn.Module, folder: Path) -> None:
    """Put those of a checkpoint into the model, if it has any."""
    if (folder / NAME).is_file():
        load_point(model, load_file(folder / NAME))


def settle(optimizer: Any) -> None:
    """Leave the average in the model for good."""
    if optimizer is not None and averages(optimizer):
        optimizer.eval()


class Settle(TrainerCallback):  # type: ignore[misc]
    """Leaves the average in the model when training is over."""

    def on_train_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """Called after the last step."""
        settle(optimizer)
