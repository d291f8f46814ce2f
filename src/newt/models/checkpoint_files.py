"""The tensors in the safetensors files of a model folder, one at a time; those stored in few bits given in full."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from newt.models.dequantized import SCALE, refuse_cut_blocks
from newt.support.errors import NewtError

INDEX = "model.safetensors.index.json"
BLOCKS, SCALES = "_blocks", "_scales"
"""What the two parts of a parameter in MXFP4 are called, after the parameter's own name."""

OF_ACTIVATIONS = "activation_scale"
FP8_METHODS = ("fp8", "mxfp8")
METHODS = (*FP8_METHODS, "mxfp4")
"""Values of ``quant_method`` whose weights can be given in full, one at a time."""

PACKED = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8)


@dataclass(frozen=True)
class InFewBits:
    """How a checkpoint is stored, and how it is given.

    Attributes:
        values: ``quantization_config`` of its config.json.
        dtype: number type of the weights that are given in full.
    """

    values: Mapping[str, Any]
    dtype: torch.dtype

    @property
    def method(self) -> str:
        """One of ``METHODS``."""
        return str(self.values["quant_method"])


class CheckpointFiles:
    """A model's files as those of a checkpoint in 16 or 32 bits: what is needed to give weights in full has no name.

    Args:
        folder: holds the files.
        stored: how they are stored; None: as they are meant.

    Attributes:
        shards: file name -> names of the tensors that it gives; empty for a folder without safetensors.

    Raises:
        NewtError: weights in FP8 that transformers gives back wrongly.
    """

    def __init__(self, folder: Path, stored: InFewBits | None = None) -> None:
        self.folder, self.stored = folder, stored
        held = {shard: stored_names(folder / shard) for shard in _shards(folder)}
        self._place = {name: shard for shard, names in held.items() for name in names}
        if stored is not None and stored.method in FP8_METHODS:
            refuse_cut_blocks(folder, stored.values.get("weight_block_size"))
        given = {shard: [self._given(name) for name in names] for shard, names in held.items()}
        self.shards = {shard: [name for name in names if name is not None] for shard, names in given.items()}
        self.names = {name for names in self.shards.values() for name in names}

    def _given(self, name: str) -> str | None:
        """The name under which a stored tensor is given; None: it belongs to another."""
        if self.stored is None:
            return name
        if self.stored.method == "mxfp4":
            bare = name.removesuffix(BLOCKS)
            if bare != name and f"{bare}{SCALES}" in self._place:
                return bare
            return None if f"{name.removesuffix(SCALES)}{BLOCKS}" in self._place and name.endswith(SCALES) else name
        companion = name.endswith(SCALE) and name.removesuffix(SCALE) in self._place
        return None if companion or name.endswith(OF_ACTIVATIONS) else name

    def tensor(self, name: str) -> Tensor:
        """A tensor by the name that it is given under.

        Raises:
            NewtError: it is stored in few bits in a way that is not known here.
        """
        if self.stored is None:
            return self._read(name)
        if f"{name}{BLOCKS}" in self._place and name not in self._place:
            return _from_mxfp4(self._read(f"{name}{BLOCKS}"), self._read(f"{name}{SCALES}"), self.stored.dtype)
        value = self._read(name)
        if f"{name}{SCALE}" in self._place:
            return _from_fp8(value, self._read(f"{name}{SCALE}")).to(self.stored.dtype)
        if value.dtype in PACKED:
            raise NewtError(f"base_model: {name} has no scale that is known by file: use merge_method: legacy")
        return value.to(self.stored.dtype) if value.is_floating_point() and value.itemsize == 2 else value

    def _read(self, name: str) -> Tensor:
        with safe_open(self.folder / self._place[name], framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def least_precise(self) -> torch.dtype:
        """The least precise floating-point type of the weights; float32 if there are none."""
        if self.stored is not None:
            return self.stored.dtype
        kinds = set()
        for shard, names in self.shards.items():
            with safe_open(self.folder / shard, framework="pt") as file:
                kinds |= {file.get_slice(name).get_dtype() for name in names}
        found = (dtype for kind, dtype in (("BF16", torch.bfloat16), ("F16", torch.float16)) if kind in kinds)
        return next(found, torch.float32)


def stored_names(path: Path) -> list[str]:
    """Names of the tensors in a file."""
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _shards(folder: Path) -> list[str]:
    index = folder / INDEX
    if index.is_file():
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return ["model.safetensors"] if (folder / "model.safetensors").is_file() else []


def _from_fp8(values: Tensor, scale: Tensor) -> Tensor:
    """Float32 weights, by transformers' own operation. Scales in one byte are exponents of 2."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    scale = (scale.float() - 127).exp2() if scale.dtype == torch.uint8 else scale.float()
    # Older releases take and give lists.
    given: Any = Fp8Dequantize(None).convert({"weight": [values], "weight_scale_inv": [scale]})["weight"]
    weight: Tensor = given[0] if isinstance(given, list) else given
    return weight


def _from_mxfp4(blocks: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """(experts, in, out), by transformers' own operation."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    given: Tensor = convert_moe_packed_tensors(blocks, scales, dtype=dtype)
    return given
