"""Compare a merged model with base + adapter, and the merge that holds the whole model in memory."""

from __future__ import annotations

import gc
import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from newt.models.adapters import load_lora
from newt.models.checkpoint_files import CheckpointFiles, InFewBits
from newt.models.dequantized import settle_dequantized
from newt.models.quantize import Held, named_config
from newt.models.quiet import quiet
from newt.models.stored import READ_BY

LENGTHS = (5, 17, 64)
ARITHMETIC = 2e-5
"""Part of the largest logit that float32 arithmetic may lose: (W + B A) x and W x + B (A x) round in another order in
every layer. Measured: 4e-6 in a model of 30 layers."""
ROUNDING = 2.0
"""A merged weight is rounded to the number type of the base, which base + adapter is not, and what that does to the
logits depends on the model's depth. So it is measured: every merged weight is shifted at random by up to half a unit
in its last place, which is what rounding does, and the tolerance is this many times the largest change of a logit."""


@dataclass(frozen=True)
class Base:
    """A base model as it was in training.

    Attributes:
        folder: holds it.
        config: its transformers config; None: the folder's own.
        held: how its weights were held in 4 bits.
        stored: how they are stored in few bits.
    """

    folder: Path
    config: Any = None
    held: Held | None = None
    stored: InFewBits | None = None

    def files(self) -> CheckpointFiles:
        """Its tensors."""
        return CheckpointFiles(self.folder, self.stored)

    def load(self) -> Any:
        """The model in float32, with the values that its weights had in training."""
        from transformers import AutoModelForCausalLM

        stored = self.stored
        options: dict[str, Any] = {"dtype": torch.float32}
        if stored is not None:
            quantization = named_config(READ_BY[stored.method], {"dequantize": True})
            options = {"dtype": stored.dtype, "quantization_config": quantization}
        with quiet():
            config = deepcopy(self.config)  # peft and transformers write into it
            model = AutoModelForCausalLM.from_pretrained(str(self.folder), config=config, **options).eval()
        if stored is not None:
            settle_dequantized(model, str(self.folder), stored.values, stored.dtype)
            model.float()
        if self.held is not None:
            self.held.put_into(model)
        return model


@dataclass(frozen=True)
class Verified:
    """Largest absolute differences of logits, and what rounding explains."""

    max_difference: float
    tolerance: float
    adapter_effect: float


def verify_merge(base: Base, adapter: Path, merged: Path) -> Verified:
    """Compare the logits of two models on fixed token ids of several lengths, in float32.

    Args:
        base: the base model.
        adapter: folder of the adapter.
        merged: folder of the merged model.
    """
    model = _with_rows_of(base.load(), adapter)
    probes = _probes(model.get_input_embeddings().weight.shape[0])
    plain = _logits(model, probes)
    expected = _logits(load_lora(model, adapter, trainable=False), probes)
    del model
    gc.collect()
    model = Base(merged).load()
    got = _logits(model, probes)
    files = CheckpointFiles(merged)
    _shift(model, changed_weights(base.files(), files), torch.finfo(files.least_precise()).eps / 2)
    noise = float((_logits(model, probes) - got).abs().max())
    return Verified(
        max_difference=float((got - expected).abs().max()),
        tolerance=ARITHMETIC * max(1.0, float(expected.abs().max())) + ROUNDING * noise,
        adapter_effect=float((expected - plain).abs().max()),
    )


def changed_weights(base: CheckpointFiles, merged: CheckpointFiles) -> set[str]:
    """Names of the weights whose values differ between two checkpoints, or that only the second has."""
    return {
        name
        for name in merged.names
        if name not in base.names or not torch.equal(merged.tensor(name), base.tensor(name))
    }


def _shift(model: Any, names: set[str], relative: float) -> None:
    """Multiply each value of the named weights by 1 plus a random number of at most this size."""
    random = torch.Generator().manual_seed(0)
    parameters = dict(model.named_parameters())
    # A composite model names its weights otherwise in memory than on disk: then all are shifted.
    found = [parameters[name] for name in sorted(names & set(parameters))] or list(parameters.values())
    with torch.no_grad():
        for parameter in found:
            parameter.mul_(1 + relative * (2 * torch.rand(parameter.shape, generator=random) - 1))


def merge_in_memory(base: Base, adapter: Path, folder: Path) -> tuple[int, int]:
    """Merge with peft and write the model; returns (merged, adapted) weights, which are equal."""
    dtype = base.files().least_precise()
    model = load_lora(_with_rows_of(base.load(), adapter), adapter, trainable=False)
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


def _with_rows_of(model: Any, adapter: Path) -> Any:
    """Grow the embedding to the rows that the adapter was saved with."""
    wanted = re.compile(
        rf"base_model\.model\.{re.escape(embedding_name(model))}(\.token_adapter)?(\.base_layer)?\.weight"
    )
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            if wanted.fullmatch(name):
                rows = file.get_slice(name).get_shape()[0]
                if rows != model.get_input_embeddings().weight.shape[0]:
                    model.resize_token_embeddings(rows, mean_resizing=False)
    return model


def embedding_name(model: Any) -> str:
    """Full name of the input embedding."""
    embedding = model.get_input_embeddings()
    found: str = next(name for name, module in model.named_modules() if module is embedding)
    return found


def _probes(vocabulary: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    return [torch.randint(vocabulary, (1, length), generator=random) for length in LENGTHS]


def _logits(model: Any, probes: list[Tensor]) -> Tensor:
    model.eval()
    with torch.no_grad():
        return torch.cat([model(input_ids=ids, use_cache=False).logits for ids in probes], dim=1)
