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


PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")
"""Modules of an MLP of the usual kind."""


def tile_mlps(model: nn.Module, tiles: int | None, *, own: bool = True) -> None:
    """Let each dense MLP compute its tiles one after the other, and again in the backward pass.

    Each token's MLP is its own, so that values and gradients stay: gradients of the weights are summed over the tiles.

    Args:
        model: a transformers model, or an adapter around one.
        tiles: number of tiles; None: one for each :data:`TILE` tokens.
        own: run the model's own MLP on each tile, else ``down(act(gate(x)) * up(x))``.

    Raises:
        NewtError: the model has no module named ``mlp`` that is a dense MLP, or one that computes something else.
    """
    found = [part for name, part in model.named_modules() if name.endswith(".mlp") and _is_dense(part)]
    if not found:
        raise NewtError("tiled_mlp: the model has no dense MLP (a module named mlp with a down projection).")
    for part in found:
        # On the instance, as the names of its weights must stay.
        part.forward = tiled(part.forward if own else usual(part), tiles)


def usual(part: Any) -> Callable[[Tensor], Tensor]:
    """The function ``down(act(gate(x)) * up(x))`` of an MLP's modules.

    Raises:
        NewtError: it is not what the MLP computes.
    """
    hint = "Set tiled_mlp_use_original_mlp: true."
    if missing := [name for name in PARTS if not hasattr(part, name)]:
        raise NewtError(f"tiled_mlp_use_original_mlp: {type(part).__name__} has no {missing[0]}. {hint}")

    def call(hidden: Tensor) -> Tensor:
        result: Tensor = part.down_proj(part.act_fn(part.gate_proj(hidden)) * part.up_proj(hidden))
        return result

    weight, training = part.gate_proj.weight, part.training
    hidden = torch.linspace(-2, 2, part.gate_proj.in_features, device=weight.device).expand(1, 2, -1)
    hidden = hidden.to(weight.dtype) if weight.is_floating_point() else hidden
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        part.eval()
        same = torch.allclose(call(hidden), part(hidden), rtol=1e-2, atol=1e-4)
        part.train(training)
    if not same:
        raise NewtError(f"tiled_mlp_use_original_mlp: {type(part).__name__} computes something else. {hint}")
    return call


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
