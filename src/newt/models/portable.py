"""Adapters whose beginning cannot be computed again, rewritten so that they fit the base as it is on disk.

PiSSA (https://arxiv.org/abs/2404.02948) begins with a part of the base weight, ``s B0 A0``, and takes it out of the
base. Who loads the adapter does the same again; but with a fast decomposition that part is random, and another one each
time. That of CorDA and LoRA-GA is computed from training data. The adapter is therefore written as the difference from
its beginning, ``s (B A - B0 A0)``, which is a plain adapter of twice the rank: ``B = [B, -B0]``, ``A = [A; A0]``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from newt.support.errors import NewtError
from newt.support.files import write_atomically

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PLACE = "newt_first_adapter"


def begins_at_random(init: Any) -> bool:
    """Whether a way to begin takes a part out of the base that is another one each time."""
    return isinstance(init, str) and init.startswith("pissa_niter_")


def remember_beginning(model: Any) -> None:
    """Keep a copy of a new adapter's matrices, for ``make_portable``."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model)
    first = {key: value.detach().clone() for key, value in state.items() if _matrix(key)}
    setattr(model, _PLACE, first)


def lora_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """(full name, layer) of every linear layer with an adapter."""
    for name, module in model.named_modules():
        if "default" in getattr(module, "lora_A", ()) and not hasattr(module, "parameter_name"):
            yield name, module


def take_out(layer: Any) -> None:
    """Subtract what an adapted layer's matrices add from its base weight; in float32, the same bits each time."""
    weight = layer.get_base_layer().weight
    change = layer.lora_B["default"].weight.data.float() @ layer.lora_A["default"].weight.data.float()
    change = layer.scaling["default"] * (change.T if layer.fan_in_fan_out else change)
    weight.data = (weight.data.float() - change).to(weight.dtype)


def read_beginning(model: Any, folder: Path) -> dict[str, Tensor]:
    """The first matrices of the adapter that ``make_portable`` wrote into a folder: name -> matrix.

    Args:
        model: the model with a new adapter of the same ranks.
        folder: holds the adapter's weights.

    Raises:
        NewtError: another adapter lies there.
    """
    weights = load_file(folder / WEIGHTS)
    first = {}
    for name, layer in lora_layers(model):
        for side, linear in (("A", layer.lora_A["default"]), ("B", layer.lora_B["default"])):
            key = f"{name}.lora_{side}.weight"
            axis, rank = (0 if side == "A" else 1), layer.r["default"]
            if key not in weights or weights[key].shape[axis] != 2 * rank:
                raise NewtError(f"{folder / WEIGHTS} does not hold the beginning of {name}: it is of another run")
            half = weights[key].narrow(axis, rank, rank)
            first[key] = (half if side == "A" else -half).to(linear.weight)
    return first


def without_beginning(model: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a model trains, out of weights that ``make_portable`` wrote; all of them for other models."""
    first: dict[str, Tensor] = getattr(model, _PLACE, None) or {}
    own = dict(weights)
    for key, begin in first.items():
        if key in own:
            axis = 0 if ".lora_A." in key else 1
            own[key] = own[key].narrow(axis, 0, begin.shape[axis]).contiguous()
    return own


def make_portable(model: Any, folder: Path) -> None:
    """Rewrite the adapter in a folder as the difference from its beginning, if one was remembered.

    Args:
        model: the model that was saved there.
        folder: holds the adapter's weights and config.
    """
    first: dict[str, Tensor] | None = getattr(model, _PLACE, None)
    if first is None:
        return
    weights = load_file(folder / WEIGHTS)
    for key, begin in first.items():
        begin = begin.to(weights[key])
        axis, sign = (0, 1) if ".lora_A." in key else (1, -1)
        weights[key] = torch.cat([weights[key], sign * begin], dim=axis).contiguous()
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    # The scale, alpha / r or alpha / sqrt(r), stays what it was.
    factor = math.sqrt(2) if config.get("use_rslora") else 2
    config["r"] *= 2
    config["lora_alpha"] *= factor
    config["rank_pattern"] = {key: 2 * value for key, value in (config.get("rank_pattern") or {}).items()}
    config["alpha_pattern"] = {key: factor * value for key, value in (config.get("alpha_pattern") or {}).items()}
    config["init_lora_weights"] = True
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    write_atomically(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _matrix(key: str) -> bool:
    return key.endswith(("lora_A.weight", "lora_B.weight"))
