"""Several optimizers that look like one: for schedules, checkpoints and the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from newt.support.errors import NewtError


class Combined(Optimizer):
    """Steps several optimizers. Parameter groups and state are shared with them, so that its state dict is whole.

    Args:
        parts: the optimizers; no parameter is in two of them.
    """

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = list(parts)
        # Schedules whose bounds are rates ask for the peak that these belong to.
        peak = {"lr": self.parts[0].defaults["lr"]}
        super().__init__([group for part in parts for group in part.param_groups], peak)
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

    Each parameter has an optimizer of its own, so the weights are those of one optimizer over all of them, bit for bit,
    where that looks at each parameter alone. Gradients are never whole: they can neither be clipped together nor
    accumulated.

    Attributes:
        trying: gradients are dropped and nothing is updated: of a backward pass that is no part of the run.

    Args:
        groups: parameter groups.
        make: makes an optimizer of one group with one parameter.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], make: Callable[[list[dict[str, Any]]], Optimizer]) -> None:
        single = [{**group, "params": [parameter]} for group in groups for parameter in group["params"]]
        super().__init__([make([group]) for group in single])
        self.trying = False
        self._updated: set[int] = set()
        self._norms: dict[int, Tensor] = {}
        for part in self.parts:
            for parameter in part.param_groups[0]["params"]:
                parameter.register_post_accumulate_grad_hook(self._updater(part))

    def _updater(self, part: Optimizer) -> Callable[[Tensor], None]:
        def update(parameter: Tensor) -> None:
            if not self.trying:
                self._note(parameter)
                part.step()
            parameter.grad = None

        return update

    def _note(self, parameter: Tensor) -> None:
        if id(parameter) in self._updated:
            raise NewtError(
                "optimizer: a weight got its gradient in several parts, and was updated after the first. Use one that "
                "does not update weights during the backward pass, and remove optimizer_in_bwd."
            )
        self._updated.add(id(parameter))
        self._norms[id(parameter)] = torch.linalg.vector_norm(parameter.grad)

    def step(self, closure: Any = None) -> Any:
        """Nothing: everything was updated during the backward pass. The next one may update each weight again."""
        self._updated.clear()

    def grad_norm(self, parameters: Iterable[Tensor]) -> Tensor | None:
        """Norm of all gradients of the last backward pass together; None without any.

        Args:
            parameters: their order is that of the sum, so that the last bit is that of a run with whole gradients.
        """
        norms = [self._norms[id(parameter)] for parameter in parameters if id(parameter) in self._norms]
        self._norms.clear()
        return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms])) if norms else None


def norm_in_backward(optimizer: Any, model: nn.Module) -> Tensor | None:
    """Norm of the gradients that were used and dropped in the backward pass; None where nobody took it.

    Args:
        optimizer: the optimizer, in the wrapper of accelerate or not.
        model: the model that it trains.
    """
    inner = getattr(optimizer, "optimizer", optimizer)
    return inner.grad_norm(model.parameters()) if isinstance(inner, Layerwise) else None


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
