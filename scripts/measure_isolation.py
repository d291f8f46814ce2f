"""Whether the samples of a packed row see each other: packed logits against those of single samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface

from newt.data.masks import isolating_inputs
from newt.rows import Isolation

LENGTHS = (21, 34)
TOLERANCE = 1e-5
"""Largest difference of logits, as a share of the largest logit, that float32 rounding explains."""
SEEN = 1e-2
"""With positions that run on, the difference must be at least this: otherwise the test could not fail."""
VARLEN = "position_ids_attention"
"""Name of an attention that knows the borders of samples only from the ``position_ids`` that it is handed."""


def samples() -> list[Tensor]:
    """Two samples of random tokens, each (1, length), longer than the windows of tiny models."""
    return [torch.randint(3, 128, (1, length), generator=torch.Generator().manual_seed(length)) for length in LENGTHS]


def logits(model: Any, ids: Tensor, **inputs: Any) -> Tensor:
    """Logits (batch, seq, vocabulary) as they are computed in training."""
    with torch.no_grad():
        found: Tensor = model(input_ids=ids, **{"attention_mask": None, **inputs}, use_cache=False).logits
    return found.float()


def packed_difference(model: Any, isolation: Isolation | None) -> float:
    """Largest difference between the logits of packed and of single samples, as a share of the largest logit.

    Args:
        model: in evaluation mode.
        isolation: how samples are kept apart; None: not at all, positions run on through the row.
    """
    each = samples()
    single = torch.cat([logits(model, ids, position_ids=torch.arange(ids.shape[1])[None]) for ids in each], 1)
    positions = torch.cat([torch.arange(ids.shape[1]) for ids in each])[None]
    inputs = isolating_inputs(isolation, positions) if isolation else {}
    positions = positions if isolation else torch.arange(positions.shape[1])[None]
    packed = logits(model, torch.cat(each, 1), position_ids=positions, **inputs)
    return float((packed - single).abs().max() / single.abs().max())


def is_causal(model: Any) -> bool:
    """Whether the logits of a token depend on no token after it."""
    ids = samples()[0]
    half = ids.shape[1] // 2
    whole, first = logits(model, ids)[:, :half], logits(model, ids[:, :half])
    return float((whole - first).abs().max() / whole.abs().max()) < SEEN


def masks(config: Any, *, additive: bool) -> Iterator[tuple[Mapping[str, str | None], Isolation]]:
    """The masks that an architecture may want: kind of layer -> config key of its window, and the isolation."""
    yield {}, Isolation("mask", additive=additive)
    kinds = dict.fromkeys(getattr(config, "layer_types", None) or ())
    keys = {kind: "sliding_window" if "sliding" in kind else None for kind in kinds}
    if any(keys.values()):
        windows = {kind: getattr(config, key) if key else None for kind, key in keys.items()}
        yield keys, Isolation("mask", windows, additive)


def _varlen_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: Any = None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention like flash attention's: no mask, borders where ``position_ids`` restart, an optional window."""
    positions = kwargs.get("position_ids")
    length = query.shape[2]
    positions = torch.arange(length)[None] if positions is None else positions
    number = (positions == 0).cumsum(-1)
    distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
    seen = (distance >= 0) & (distance < (kwargs.get("sliding_window") or length))
    seen = (number[:, :, None] == number[:, None, :])[:, None] & seen
    out = functional.scaled_dot_product_attention(
        query, key, value, seen, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return out.transpose(1, 2).contiguous(), None


def register_varlen() -> None:
    """Make it known to transformers, with a mask function that makes no mask."""
    AttentionInterface.register(VARLEN, _varlen_attention)
    AttentionMaskInterface.register(VARLEN, lambda *args, **kwargs: None)
