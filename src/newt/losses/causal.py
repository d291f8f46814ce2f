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
from newt.losses.head import base_of, captured, head_of
from newt.losses.linear_ce import linear_cross_entropy

IGNORED = -100
"""Label of a token that is not trained."""

POSITIONS = "loss_positions"
"""Optional batch key, (n,) int64: the positions whose next token is trained in at least one row of the batch."""


def causal_loss(model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int) -> Tensor:
    """Cross-entropy of the next token, without the logits where the model allows it.

    Arguments and result are those of :func:`plain_causal_loss`, and so are the values; no more than the logits of a
    few rows exist at one time. Models whose output layer is no plain matrix product get the plain loss.
    """
    inputs, labels = _inputs(batch), batch["labels"]
    head = head_of(model, lambda: _call(model, inputs))
    if head is None:
        return plain_causal_loss(model, batch, num_items)
    with captured(model) as seen:
        _call(model, inputs)
    if seen.hidden is None or seen.hidden.shape[:2] != labels.shape:
        return plain_causal_loss(model, batch, num_items)
    total = linear_cross_entropy(
        seen.hidden.flatten(0, 1),
        head.layer.weight,
        _next(labels).flatten(),
        head.layer.bias,
        rule=head.rule,
        dtype=seen.dtype,
        ignored=IGNORED,
    )
    return total / num_items


def plain_causal_loss(
    model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int, chunks: int | None = None
) -> Tensor:
    """Cross-entropy of the next token, in float32, from the model's logits.

    Args:
        model: a causal language model, wrapped or not.
        batch: inputs of the model, and ``labels`` (batch, seq) with -100 where a token is not trained. The first
            token of every sample, also inside a packed row, must be untrained: nothing predicts it.
        num_items: number of trained tokens that the sum is divided by.
        chunks: parts in which it is computed; None: as many as memory wants.

    Returns:
        Scalar float32.
    """
    inputs, labels = _inputs(batch), batch["labels"]
    positions = batch.get(POSITIONS)
    if positions is not None and takes_positions(model):
        # Only these positions reach the output layer, the widest one of the model.
        inputs["logits_to_keep"] = positions
        logits, targets = _call(model, inputs).logits, labels[:, positions + 1]
    else:
        logits, targets = _call(model, inputs).logits, _next(labels)
    return chunked_cross_entropy(logits.flatten(0, 1), targets.flatten(), IGNORED, chunks) / num_items


def _inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in batch.items() if key not in ("labels", POSITIONS)}


def _next(labels: Tensor) -> Tensor:
    """The token that each position predicts."""
    return functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]


def _call(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    # With a cache, transformers builds the mask from the cache length and packed samples see each other.
    return model(**inputs, use_cache=False)


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
    return _takes_positions(type(base_of(model)).forward)


@cache
def _takes_positions(forward: Callable[..., Any]) -> bool:
    parameter = inspect.signature(forward).parameters.get("logits_to_keep")
    return parameter is not None and "Tensor" in str(parameter.annotation)
