"""LoftQ: a base that is rounded to few bits, and an adapter that begins as what the rounding lost.

Paper: https://arxiv.org/abs/2310.08659, algorithm 1, with one step as in peft. The rounding is that of bitsandbytes:
NF4 in blocks of 64, or 8 bits with one scale a row. The rounded weights are held in their own number type, so that the
base on disk gives them again; peft does the same when it loads such an adapter, on a GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from newt.models.four_bits import through_four_bits
from newt.support.errors import NewtError
from newt.support.log import progress

MOST_INT8 = 127.0
SMALLEST = 1e-30
"""Stands for the scale of a row of zeros."""


def rounded(weight: Tensor, bits: int) -> Tensor:
    """A weight (out, in) as bitsandbytes gives it back after it was quantized, in the same number type.

    Args:
        weight: floating point.
        bits: 4 (NF4, without double quantization) or 8.
    """
    if bits == 4:
        return through_four_bits(weight.float(), "nf4", double=False).to(weight.dtype)
    half = weight.half()
    largest = half.abs().amax(dim=1, keepdim=True).float()
    codes = (half * (MOST_INT8 / largest.clamp(min=SMALLEST))).round()
    return (codes * largest * (1 / MOST_INT8)).to(weight.dtype)


def begin_loftq(model: Any, bits: int) -> None:
    """Round the adapted layers of a model, and let a new adapter begin as what is lost.

    Args:
        model: peft's wrapper with a plain LoRA adapter.
        bits: 4 or 8.

    Raises:
        NewtError: a layer that cannot be rounded alone has an adapter.
    """
    layers = _layers(model)
    with torch.no_grad(), progress("LoftQ", len(layers)) as advance:
        for layer in layers:
            pair, scale = (layer.lora_A["default"].weight, layer.lora_B["default"].weight), layer.scaling["default"]
            lost = _round(layer, bits)
            left, size, right = torch.linalg.svd(lost, full_matrices=False)
            root = (size[: pair[0].shape[0]] / scale).sqrt()
            pair[0].copy_(root[:, None] * right[: len(root)])
            pair[1].copy_(left[:, : len(root)] * root)
            advance(1)
    name_loftq(model, bits)


def round_base(model: Any, bits: int) -> None:
    """Round the adapted layers of a base, for an adapter that was trained on it."""
    with torch.no_grad():
        for layer in _layers(model):
            _round(layer, bits)
    name_loftq(model, bits)


def name_loftq(model: Any, bits: int) -> None:
    """Say in the adapter's config that it fits the rounded base."""
    config = model.peft_config["default"]
    config.init_lora_weights, config.loftq_config = "loftq", {"loftq_bits": bits, "loftq_iter": 1}


def bits_of(saved: Mapping[str, Any]) -> int | None:
    """The bits in a LoftQ adapter's config; None for other adapters.

    Raises:
        NewtError: bits that cannot be had.
    """
    if saved.get("init_lora_weights") != "loftq":
        return None
    bits = (saved.get("loftq_config") or {}).get("loftq_bits", 4)
    if bits not in (4, 8):
        raise NewtError(f"The adapter began with LoftQ in {bits} bits: only 4 and 8 can be had again")
    return int(bits)


def without_loftq(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an adapter's settings with which peft makes a plain adapter in place of LoftQ's."""
    plain = {"init_lora_weights": True, "loftq_config": {}} if settings.get("init_lora_weights") == "loftq" else {}
    return {**settings, **plain}


def _round(layer: Any, bits: int) -> Tensor:
    """Round a layer's weight in place; gives what is lost, float32 (out, in), on the GPU if there is one."""
    weight = layer.get_base_layer().weight
    full = weight.data.to("cuda") if torch.cuda.is_available() else weight.data
    held = rounded(full, bits)
    lost: Tensor = full.float() - held.float()
    weight.data = held.to(weight.device)
    return lost


def _layers(model: Any) -> list[Any]:
    """The adapted layers, each with a weight of its own."""
    own = (module._parameters.get("weight") for module in model.modules())
    owners = Counter(id(weight) for weight in own if weight is not None)
    found = []
    for name, module in model.named_modules():
        if not hasattr(module, "lora_A") or not hasattr(module, "get_base_layer"):
            continue
        base = module.get_base_layer()
        if not isinstance(base, nn.Linear) or hasattr(module, "parameter_name") or owners[id(base.weight)] > 1:
            raise NewtError(
                f"peft_init_lora_weights: loftq rounds linear layers with a weight of their own, and {name} is none"
            )
        found.append(module)
    return found
