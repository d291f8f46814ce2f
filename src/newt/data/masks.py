"""Masks that keep the samples of one row apart, for architectures that do not make them of ``position_ids``."""

from __future__ import annotations

import torch
from torch import Tensor

from newt.rows import Isolation


def sample_numbers(position_ids: Tensor) -> Tensor:
    """Number of each token's sample in its row, int32 (batch, seq): a sample begins where the position is 0."""
    return (position_ids == 0).cumsum(-1, dtype=torch.int32) - 1


def block_diagonal(numbers: Tensor, window: int | None = None) -> Tensor:
    """Which tokens each token sees: itself and those before it in its sample, at most ``window`` in all.

    Args:
        numbers: sample of each token, (batch, seq), increasing.
        window: sliding window in tokens, itself included.

    Returns:
        bool (batch, 1, seq, seq), True where the query (third dimension) sees the key (last dimension).
    """
    place = torch.arange(numbers.shape[-1])
    distance = place[:, None] - place[None, :]
    near = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
    return ((numbers[:, :, None] == numbers[:, None, :]) & near)[:, None]


def additive(mask: Tensor) -> Tensor:
    """The mask as float32 to be added to the scores: 0 where a token is seen, else the lowest number."""
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)


def isolating_inputs(isolation: Isolation, position_ids: Tensor) -> dict[str, Tensor | dict[str, Tensor]]:
    """What the model gets besides ``position_ids`` (batch, seq) to keep samples apart.

    Returns:
        Nothing, ``seq_idx`` int32 (batch, seq), or ``attention_mask``: one mask, or one for each kind of layer.
    """
    if isolation.by == "position_ids":
        return {}
    numbers = sample_numbers(position_ids)
    if isolation.by == "seq_idx":
        return {"seq_idx": numbers}

    def mask(window: int | None) -> Tensor:
        seen = block_diagonal(numbers, window)
        return additive(seen) if isolation.additive else seen

    if not isolation.windows:
        return {"attention_mask": mask(None)}
    return {"attention_mask": {kind: mask(window) for kind, window in isolation.windows.items()}}
