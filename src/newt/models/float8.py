"""Linear layers that multiply in 8-bit floating point, through torchao."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

from torch import nn

ALIGNED = 16
"""Both sides of a weight must be a multiple of this."""

NOT_CONVERTED = ("lm_head", "embed_out", "router", "gate", "lora_")
"""Parts of names of layers that stay: the output layer, routers of experts (too sensitive) and adapters (too small)."""


def to_float8(model: nn.Module, recipe: str, *, emulate: bool = False) -> int:
    """Let the linear layers compute in 8 bits; their weights and names stay.

    Args:
        model: a transformers model.
        recipe: a name of torchao's recipes.
        emulate: round to 8 bits, but multiply in the higher type, for hardware without 8-bit products.

    Returns:
        Number of layers that were converted.
    """
    float8: Any = import_module("torchao.float8")

    config = replace(float8.Float8LinearConfig.from_recipe_name(recipe), emulate=emulate)
    chosen: list[str] = []

    def choose(part: nn.Module, name: str) -> bool:
        fits = isinstance(part, nn.Linear) and part.in_features % ALIGNED == 0 and part.out_features % ALIGNED == 0
        names = name.split(".")
        kept = any(word in piece if word == "lora_" else word == piece for word in NOT_CONVERTED for piece in names)
        if fits and not kept:
            chosen.append(name)
            return True
        return False

    float8.convert_to_float8_training(model, config=config, module_filter_fn=choose)
    return len(chosen)
