"""Several optimizers that look like one: for schedules, checkpoints and the trainer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Combined(Optimizer):
    """Steps several optimizers. Parameter groups and state are shared with them, so that its state dict is whole.

    Args:
        parts: the optimizers; no parameter is in two of them.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in parts for group in part.param_groups], {})
        for part in parts:
            self.state.update(part.state)
        self._share()

    def _share(self) -> None:
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a stored state, and let the parts see it."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Any = None) -> Any:
        """Step all parts."""
        for part in self.parts:
            part.step()


class Layerwise(Combined):
    """Updates each parameter as soon as its gradient is there, and forgets the gradient: memory for one at a time.

    Gradients are never whole, so they can neither be clipped together nor accumulated.

    Args:
        groups: parameter groups.
        make: makes an optimizer of one group with one parameter.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], make: Callable[[list[dict[str, Any]]], Optimizer]) -> None:
        single = [{**group, "params": [parameter]} for group in groups for parameter in group["params"]]
        super().__init__([make([group]) for group in single])
        for part in self.parts:
            for parameter in part.param_groups[0]["params"]:
                parameter.register_post_accumulate_grad_hook(_updater(part))

    def step(self, closure: Any = None) -> Any:
        """Nothing: everything was updated during the backward pass."""


def _updater(part: Optimizer) -> Callable[[Tensor], None]:
    def update(parameter: Tensor) -> None:
        part.step()
        parameter.grad = None

    return update


def load_exactly(optimizer: Optimizer) -> None:
    """Let an optimizer take over stored tensors in their own data types.

    ``Optimizer.load_state_dict`` casts them to that of their parameter: moments of 32 bits beside weights of 16 would
    be rounded, and those of 8 bits lost.
    """
    held: dict[str, Any] = {}

    def before(_: Optimizer, state_dict: dict[str, Any]) -> None:
        held["stored"] = state_dict

    def after(loaded: Optimizer) -> None:
        stored = held.pop("stored")
        numbers = chain.from_iterable(group["params"] for group in stored["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in loaded.param_groups)
        for number, parameter in zip(numbers, parameters, strict=True):
            _restore(loaded.state.get(parameter, {}), stored["state"].get(number, {}), parameter.device)

    optimizer.register_load_state_dict_pre_hook(before)
    optimizer.register_load_state_dict_post_hook(after)


def _restore(state: dict[str, Any], stored: dict[str, Any], device: torch.device) -> None:
    for name, value in stored.items():
        if isinstance(value, Tensor) and isinstance(state.get(name), Tensor) and state[name].dtype != value.dtype:
            state[name] = value.to(device)


def place_projectors(optimizer: Optimizer, *_: Any) -> None:
    """Move the projections of GaLore and APOLLO to their parameters: a checkpoint is read onto the CPU.

    A hook before each step.
    """
    for parameter, state in optimizer.state.items():
        projector = state.get("projector")
        matrix = getattr(projector, "ortho_matrix", None)
        if isinstance(matrix, Tensor) and matrix.device != parameter.device:
            projector.ortho_matrix = matrix.to(parameter.device)
        elif isinstance(matrix, list | tuple):
            projector.ortho_matrix = [part.to(parameter.device) for part in matrix]
