"""Norm layers in float32 inside a model of a lower precision."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from torch import Tensor, nn

from newt.support.errors import NewtError

SUFFIX = "Norm"
"""How the names of norm classes end."""


def norms_in_float32(model: nn.Module, classes: Collection[str] = ()) -> int:
    """Hold the weights of norm layers in float32, and compute these layers in float32.

    Their results have the number type of their inputs, so that the layers around them see no difference.

    Args:
        model: a transformers model, or an adapter around one.
        classes: class names of these layers; empty: those that end in ``Norm``.

    Returns:
        Number of layers.

    Raises:
        NewtError: the model has no layer of a class that is named, or no norm at all.
    """
    layers = [part for part in model.modules() if not list(part.children())]
    found = [part for part in layers if _is_one(type(part).__name__, classes)]
    names = {type(part).__name__ for part in layers}
    if missing := sorted(set(classes) - names):
        raise NewtError(f"fp32_norm_classes: the model has no {missing[0]}; it has: {', '.join(sorted(names))}.")
    if not found:
        raise NewtError("fp32_norms: the model has no class that ends in Norm. Name its norms in fp32_norm_classes.")
    for part in found:
        part.float()
        # On the instance, as the names of its weights must stay.
        part.forward = partial(_in_float32, part.forward)
    return len(found)


def _is_one(name: str, classes: Collection[str]) -> bool:
    return name in classes if classes else name.endswith(SUFFIX)


def _in_float32(forward: Callable[..., Tensor], hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return forward(hidden.float(), *args, **kwargs).to(hidden.dtype)
