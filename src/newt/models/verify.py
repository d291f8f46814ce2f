"""Compare a merged model with base + adapter, and the merge that holds the whole model in memory."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from newt.models.adapters import load_lora
from newt.models.quantize import Held
from newt.models.quiet import quiet

LENGTHS = (5, 17, 64)
ARITHMETIC = 2e-5
"""Part of the largest logit that float32 arithmetic may lose: (W + B A) x and W x + B (A x) round in another order in
every layer. Measured: 4e-6 in a model of 30 layers."""
ROUNDING = 2.0
"""A merged weight is rounded to the number type of the base, which base + adapter is not, and what that does to the
logits depends on the model's depth. So it is measured: every merged weight is shifted at random by up to half a unit
in its last place, which is what rounding does, and the tolerance is this many times the largest change of a logit."""


@dataclass(frozen=True)
class Verified:
    """Largest absolute differences of logits, and what rounding explains."""

    max_difference: float
    tolerance: float
    adapter_effect: float


def verify_merge(base: Path, adapter: Path, merged: Path, held: Held | None = None) -> Verified:
    """Compare the logits of two models on fixed token ids of several lengths, in float32.

    Args:
        base: folder of the base model.
        adapter: folder of the adapter.
        merged: folder of the merged model.
        held: how the base's weights were held in 4 bits in training.
    """
    model = _with_rows_of(_load(base, held), adapter)
    probes = _probes(model.get_input_embeddings().weight.shape[0])
    plain = _logits(model, probes)
    expected = _logits(load_lora(model, adapter, trainable=False), probes)
    del model
    gc.collect()
    model = _load(merged)
    got = _logits(model, probes)
    _shift(model, changed_weights(base, merged), torch.finfo(_stored_dtype(merged)).eps / 2)
    noise = float((_logits(model, probes) - got).abs().max())
    return Verified(
        max_difference=float((got - expected).abs().max()),
        tolerance=ARITHMETIC * max(1.0, float(expected.abs().max())) + ROUNDING * noise,
        adapter_effect=float((expected - plain).abs().max()),
    )


def changed_weights(base: Path, merged: Path) -> set[str]:
    """Names of the weights whose values differ between two checkpoints, or that only the second has."""
    before = {name: path for path in base.glob("*.safetensors") for name in _names(path)}
    changed = set()
    for path in merged.glob("*.safetensors"):
        for name in _names(path):
            if name not in before or not torch.equal(_tensor(path, name), _tensor(before[name], name)):
                changed.add(name)
    return changed


def _shift(model: Any, names: set[str], relative: float) -> None:
    """Multiply each value of the named weights by 1 plus a random number of at most this size."""
    random = torch.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())
    # A composite model names its weights otherwise in memory than on disk: then all are shifted.
    found = [parameters[name] for name in sorted(names & set(parameters))] or list(parameters.values())
    with torch.no_grad():
        for parameter in found:
            parameter.mul_(1 + relative * (2 * torch.rand(parameter.shape, generator=random) - 1))


def merge_in_memory(base: Path, adapter: Path, folder: Path, held: Held | None = None) -> tuple[int, int]:
    """Merge with peft and write the model; returns (merged, adapted) weights, which are equal."""
    dtype = _stored_dtype(base)
    model = load_lora(_with_rows_of(_load(base, held), adapter), adapter, trainable=False)
    if any(config.layer_replication for config in model.peft_config.values() if hasattr(config, "layer_replication")):
        _part_from_each_other(model)
    count = sum(hasattr(module, "merge") and hasattr(module, "lora_A") for module in model.modules())
    model = model.merge_and_unload(safe_merge=True)
    model.to(dtype)
    model.config.dtype = dtype
    with quiet():
        model.save_pretrained(folder)
    return count, count


def _part_from_each_other(model: Any) -> None:
    """Layers that were repeated share their base weights, and each adapter goes into its own."""
    seen: set[int] = set()
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen and not any(module in end.modules() for end in ends if end is not None):
                setattr(module, name, torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
            seen.add(id(parameter))


def _load(folder: Path, held: Held | None = None) -> Any:
    from transformers import AutoModelForCausalLM

    with quiet():
        model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    if held is not None:
        held.put_into(model)
    return model


def _with_rows_of(model: Any, adapter: Path) -> Any:
    """Grow the embedding to the rows that the adapter was saved with."""
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if name.endswith(("embed_tokens.weight", "embed_tokens.base_layer.weight")):
                rows = file.get_slice(name).get_shape()[0]
                if rows != model.get_input_embeddings().weight.shape[0]:
                    model.resize_token_embeddings(rows, mean_resizing=False)
    return model


def _probes(vocabulary: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randint(vocabulary, (1, length), generator=random) for length in LENGTHS]


def _logits(model: Any, probes: list[Tensor]) -> Tensor:
    model.eval()
    with torch.no_grad():
        return torch.cat([model(input_ids=ids, use_cache=False).logits for ids in probes], dim=1)


def _stored_dtype(folder: Path) -> torch.dtype:
    """The least precise floating-point type of the weights on disk."""
    kinds = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            kinds |= {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    for kind, dtype in (("BF16", torch.bfloat16), ("F16", torch.float16)):
        if kind in kinds:
            return dtype
    return torch.float32


def _names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _tensor(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
    return tensor
