"""torch.compile, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

RECOMPILATIONS = 256
"""Shapes and kinds of layers that are compiled before torch gives up."""


def compile_layers(model: nn.Module, **options: Any) -> int:
    """Compile each decoder layer: equal layers share their code, so depth costs no time.

    torch keeps compiled code on disk (``TORCHINDUCTOR_CACHE_DIR``): the next run starts warm.

    Args:
        model: a transformers model, or an adapter around one.
        options: arguments of ``torch.compile``.

    Returns:
        Number of layers.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILATIONS)
    layers = [part for part in model.modules() if isinstance(part, GradientCheckpointingLayer)]
    for layer in layers:
        layer.compile(**options)
    return len(layers)
