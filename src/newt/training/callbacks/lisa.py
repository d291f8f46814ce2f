"""LISA: which layers are trained, drawn anew every so many steps. https://arxiv.org/abs/2403.17919"""

from __future__ import annotations

import random
from operator import attrgetter
from typing import Any

from torch import nn
from transformers import TrainerCallback

from newt.support.errors import NewtError


def find_layers(model: nn.Module, attribute: str, count: int) -> nn.ModuleList:
    """The list of layers at a dotted path.

    Raises:
        NewtError: there is no such list, or one of fewer than ``count`` layers.
    """
    try:
        layers = attrgetter(attribute)(model)
    except AttributeError:
        layers = None
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        found = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
        raise NewtError(
            f"lisa_layers_attribute: the model has no list of layers {attribute!r}. It has: {', '.join(found[:6])}"
        )
    if count > len(layers):
        raise NewtError(f"lisa_n_layers: the model has only {len(layers)} layers")
    return layers


def draw(seed: int, block: int, count: int, layers: int) -> list[int]:
    """Numbers of the layers that are trained in a block of steps; it depends on nothing else, so a resume agrees.

    Args:
        seed: seed of the run.
        block: which block of steps.
        count: layers to draw.
        layers: layers that there are.
    """
    return sorted(random.Random(f"lisa {seed} {block}").sample(range(layers), count))


class Lisa(TrainerCallback):  # type: ignore[misc]
    """Freezes all layers but the drawn ones. What is outside of the layers is not touched."""

    def __init__(self, count: int, interval: int, attribute: str, seed: int) -> None:
        """Keep the numbers.

        Args:
            count: layers that are trained at a time.
            interval: optimizer steps until the next draw.
            attribute: dotted path of the list of layers.
            seed: seed of the run.
        """
        self.count, self.interval, self.attribute, self.seed = count, interval, attribute, seed
        self.block: int | None = None
        self.trained: dict[int, list[nn.Parameter]] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Find the layers, and what of them is trained at all."""
        layers = find_layers(model, self.attribute, self.count)
        self.block = None
        self.trained = {
            number: [parameter for parameter in layer.parameters() if parameter.requires_grad]
            for number, layer in enumerate(layers)
        }

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Draw at the begin of each block of steps."""
        block = state.global_step // self.interval
        if block == self.block:
            return
        self.block = block
        chosen = draw(self.seed, block, self.count, len(self.trained))
        for number, parameters in self.trained.items():
            for parameter in parameters:
                parameter.requires_grad = number in chosen
                if number not in chosen:
                    parameter.grad = None  # else the optimizer would go on with it

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """All layers count as trained again."""
        for parameters in self.trained.values():
            for parameter in parameters:
                parameter.requires_grad = True
