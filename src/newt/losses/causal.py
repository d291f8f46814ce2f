"""Next-token cross-entropy, as a sum over trained tokens divided by a count that the caller gives.

Dividing by the trained tokens of the whole optimizer step (not of the micro-batch) makes loss and gradients the same
for every split into micro-batches, accumulation steps, ranks and packed sequences.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from newt.losses.chunked import chunked_cross_entropy

IGNORED = -100
"""Label of a token that is not trained."""

POSITIONS = "loss_positions"
"""Optional batch key, (n,) int64: the positions whose next token is trained in at least one row of the batch."""


def causal_loss(model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int) -> Tensor:
    """Cross-entropy of the next token, in float32.

    Args:
        model: a causal language model, wrapped or not.
        batch: inputs of the model, and ``labels`` (batch, seq) with -100 where a token is not trained. The first
            token of every sample, also inside a packed row, must be untrained: nothing predicts it.
        num_items: number of trained tokens that the sum is divided by.

    Returns:
        Scalar float32.
    """
    inputs = {key: value for key, value in batch.items() if key not in ("labels", POSITIONS)}
    labels = batch["labels"]
    positions = batch.get(POSITIONS)
    if positions is not None and takes_positions(model):
        # Only these positions reach the output layer, the widest one of the model.
        inputs["logits_to_keep"] = positions
        logits, targets = _logits(model, inputs), labels[:, positions + 1]
    else:
        logits, targets = _logits(model, inputs), functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
    return chunked_cross_entropy(logits.flatten(0, 1), targets.flatten(), IGNORED) / num_items


def _logits(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    # With a cache, transformers builds the mask from the cache length and packed samples see each other.
    logits: Tensor = model(**inputs, use_cache=False).logits
    return logits


def trained_tokens(batch: Mapping[str, Tensor]) -> Tensor:
    """Number of tokens that ``causal_loss`` sums over, scalar int64."""
    return (batch["labels"][:, 1:] != IGNORED).sum()


def trained_positions(labels: Tensor) -> Tensor:
    """The positions whose next token is trained in at least one row, (n,) int64; never empty.

    Args:
        labels: (batch, seq) with -100 where a token is not trained.
    """
    found = (labels[:, 1:] != IGNORED).any(0).nonzero().flatten()
    # An empty choice would leave the output layer out of the backward pass, which data parallelism waits for.
    return found if len(found) else torch.zeros(1, dtype=torch.int64)


def takes_positions(model: nn.Module) -> bool:
    """Whether the model computes logits at chosen positions only (``logits_to_keep`` as a tensor)."""
    inner: Any = model
    for name in ("module", "_orig_mod"):
        inner = getattr(inner, name, inner)
    if hasattr(inner, "get_base_model"):
        inner = inner.get_base_model()
    return _takes_positions(type(inner).forward)


@cache
def _takes_positions(forward: Callable[..., Any]) -> bool:
    parameter = inspect.signature(forward).parameters.get("logits_to_keep")
    return parameter is not None and "Tensor" in str(parameter.annotation)
