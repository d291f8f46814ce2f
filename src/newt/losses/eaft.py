"""Entropy-adaptive weights of tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from newt.losses.causal import IGNORED, POSITIONS


def entropy_weights(logits: Tensor, k: int, alpha: float) -> Tensor:
    """``(H / log k) ** alpha`` with the entropy H of the k most likely tokens, renormalised; no gradient.

    Args:
        logits: (tokens, vocabulary).
        k: tokens that the entropy is taken over.
        alpha: exponent; 0 gives every token the weight 1.

    Returns:
        (tokens,) float32 in [0, 1].
    """
    k = min(k, logits.shape[-1])
    log_probabilities = logits.detach().float().topk(k, -1).values.log_softmax(-1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(-1) / math.log(max(k, 2))
    return entropy.clamp(0, 1) ** alpha


def eaft_loss(
    model: nn.Module, batch: Mapping[str, Tensor], num_items: Tensor | int, *, k: int, alpha: float
) -> Tensor:
    """Cross-entropy of the next token in which certain tokens weigh less, float32.

    In evaluation every token has the weight 1.

    Args:
        model: a causal language model, wrapped or not.
        batch: as for ``plain_causal_loss``.
        num_items: number of trained tokens that the sum is divided by; the weights do not change it.
        k: see :func:`entropy_weights`.
        alpha: see there.
    """
    inputs = {key: value for key, value in batch.items() if key not in ("labels", POSITIONS)}
    logits = model(**inputs, use_cache=False).logits
    targets = functional.pad(batch["labels"], (0, 1), value=IGNORED)[:, 1:].flatten()
    kept = (targets != IGNORED).nonzero().flatten()
    chosen = logits.flatten(0, 1)[kept]
    losses = functional.cross_entropy(chosen.float(), targets[kept], reduction="none")
    weights = entropy_weights(chosen, k, alpha) if model.training else torch.ones_like(losses)
    return (losses * weights).sum() / num_items
