"""MLPs that compute a row in tiles along the sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from newt.support.errors import NewtError

TILE = 32768
"""Tokens of a tile where no number of tiles is given: smaller ones are slower."""


def tile_mlps(model: nn.Module, tiles: int | None) -> None:
    """Let each dense MLP compute its tiles one after the other, and again in the backward pass.

    Each token's MLP is its own, so that values and gradients stay: gradients of the weights are summed over the tiles.

    Args:
        model: a transformers model, or an adapter around one.
        tiles: number of tiles; None: one for each :data:`TILE` tokens.

    Raises:
        NewtError: the model has no module named ``mlp`` that is a dense MLP.
    """
    found = [part for name, part in model.named_modules() if name.endswith(".mlp") and _is_dense(part)]
    if not found:
        raise NewtError("tiled_mlp: the model has no dense MLP (a module named mlp with a down projection).")
    for part in found:
        # On the instance, as the names of its weights must stay.
        part.forward = tiled(part.forward, tiles)


def _is_dense(part: nn.Module) -> bool:
    children = dict(part.named_children())
    routed = {"experts", "gate", "router"} & children.keys()
    return not routed and bool({"down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h"} & children.keys())


def tiled(forward: Callable[..., Any], tiles: int | None) -> Callable[..., Any]:
    """The same function of hidden states (batch, seq, hidden), tile by tile."""

    def call(hidden: Tensor) -> Tensor:
        count = min(tiles or math.ceil(hidden.shape[1] / TILE), hidden.shape[1])
        if count <= 1:
            result: Tensor = forward(hidden)
            return result
        parts = torch.chunk(hidden, count, dim=1)
        if not torch.is_grad_enabled():
            return torch.cat([forward(part) for part in parts], dim=1)
        return torch.cat([checkpoint(forward, part, use_reentrant=False) for part in parts], dim=1)

    return call
