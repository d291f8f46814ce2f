"""Gradient checkpointing: what crosses the border of a layer, and what is kept inside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers.modeling_layers import GradientCheckpointingLayer

OPERATIONS = {
    "attention": (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_attention_math",
        "_flash_attention_forward",
        "_efficient_attention_forward",
    ),
    "mm": ("mm",),
    "addmm": ("addmm",),
    "bmm": ("bmm",),
    "baddbmm": ("baddbmm",),
    "matmul": ("mm", "bmm"),
    "linear": ("mm", "addmm"),
}
"""Name in a config -> operations of ``torch.ops.aten`` that compute it."""


def mutable_containers(model: nn.Module, call: Callable[[], Any]) -> list[str]:
    """What checkpointed layers are given that can hold tensors and can change: it would differ when computed again.

    A tensor, a tuple of tensors or plain data is recomputed exactly; a list, a dict or a cache that a layer fills is
    filled twice, and gradients through it are lost.

    Args:
        model: a transformers model.
        call: calls it with a batch.

    Returns:
        ``layer name: argument (type)``, sorted; empty where gradient checkpointing is safe.
    """
    found: set[str] = set()

    def look(name: str, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        for key, value in (*enumerate(inputs), *named.items()):
            found.update(f"{name}: {key} ({type(item).__name__})" for item in _mutable(value))

    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, GradientCheckpointingLayer)]
    handles = [part.register_forward_pre_hook(partial(look, name), with_kwargs=True) for name, part in layers]
    try:
        call()
    finally:
        for handle in handles:
            handle.remove()
    return sorted(found)


def _mutable(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | frozenset):
        for item in value:
            yield from _mutable(item)
    elif not isinstance(value, Tensor | str | bytes | int | float | complex | None | torch.dtype | torch.device):
        plain = isinstance(value, list | set) and all(isinstance(item, str | int | float | bool) for item in value)
        if not (plain or callable(value)):
            yield value


def enable_selective(model: Any, saved: Collection[str]) -> None:
    """Checkpoint each layer, and keep the results of some operations inside.

    Args:
        model: a transformers model, or an adapter around one.
        saved: keys of :data:`OPERATIONS`.
    """
    names = {name for key in saved for name in OPERATIONS[key]}
    contexts = partial(create_selective_checkpoint_contexts, partial(_policy, names))
    model.gradient_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})


def _policy(names: Collection[str], context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    name = getattr(getattr(operation, "overloadpacket", operation), "__name__", "")
    return CheckpointPolicy.MUST_SAVE if name in names else CheckpointPolicy.PREFER_RECOMPUTE
