"""Base models that are stored in few bits and given back in full while they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers.utils import cached_file

from newt.models.kbit import memory
from newt.support.errors import NewtError

SCALE = "_scale_inv"
"""What the scales of a weight in FP8 are called, after the weight's own name."""

LOADED_BY = "_weight_conversions"
"""Private attribute of transformers: how a model's weights were loaded, which is done backwards when they are saved."""


def settle_dequantized(model: Any, source: str, stored: Any, dtype: Any, revision: str | None = None) -> str:
    """Make a model safe to train that was stored in few bits and is not any more.

    transformers gives weights that were quantized the number type asked for, and leaves all others in the
    checkpoint's: they are given the same type, except those in float32, which the model wants to keep so. It would also
    save them as they were stored: FP8 quantized anew, MXFP4 under the names of its parts, and without a config that
    says so. Without the memory of how it was loaded, a model is saved as it is.

    Args:
        model: a freshly loaded transformers model, whose weights are changed in place.
        source: folder or Hub id that it was loaded from.
        stored: its ``quantization_config``: a mapping, or an object of transformers.
        dtype: number type asked for, or ``auto``: the checkpoint's own.
        revision: branch, tag or commit on the Hub.

    Returns:
        A line for the user.

    Raises:
        NewtError: transformers has given weights back wrongly.
    """
    values: Mapping[str, Any] = stored if isinstance(stored, Mapping) else stored.to_dict()
    refuse_cut_blocks(_folder(source, revision), values.get("weight_block_size"))
    if isinstance(dtype, torch.dtype):
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.itemsize == 2 and parameter.dtype != dtype:
                parameter.data = parameter.data.to(dtype)
    if hasattr(model, LOADED_BY):
        delattr(model, LOADED_BY)
    size = sum(parameter.numel() * parameter.itemsize for parameter in model.parameters())
    method = values.get("quant_method", "few bits")
    name = getattr(method, "value", method)
    return f"the base model's weights are stored as {name} and given back in full: {memory(size)}"


def refuse_cut_blocks(folder: Path, block: Any) -> None:
    """Weights in FP8 whose last block is cut off by the weight's edge.

    transformers takes the weight's size divided by the number of scales for the size of a block, which is too small
    then: a weight of 192 rows in blocks of 128 would be read as two blocks of 96.

    Args:
        folder: holds the files of the weights.
        block: (rows, columns) of a block; None: there is one scale for a whole weight.

    Raises:
        NewtError: there is such a weight.
    """
    for path in sorted(folder.glob("*.safetensors")) if block else ():
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            scaled = [name for name in sorted(names) if f"{name}{SCALE}" in names]
            shapes = {name: file.get_slice(name).get_shape() for name in scaled}
        for name, shape in shapes.items():
            if any(side > size and side % size for side, size in zip(shape[-2:], block, strict=True)):
                raise NewtError(
                    f"base_model: {name} is {shape[-2]}x{shape[-1]} values, no whole number of the blocks of "
                    f"{block[0]}x{block[1]} that have a scale each. transformers gives such weights back wrongly: use "
                    "a checkpoint in 16 bits"
                )


def _folder(source: str, revision: str | None) -> Path:
    folder = Path(source).expanduser()
    return folder if folder.is_dir() else Path(cached_file(source, "config.json", revision=revision)).parent
