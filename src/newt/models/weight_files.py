"""Whether the weight files of a model folder are all there and whole. Free of torch: it reads only their headers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

AGAIN = "Copy the model again."
LFS = b"version https://git-lfs"


def what_is_missing(folder: Path) -> tuple[str, str] | None:
    """What is wrong with the weights in a folder, and what to do; None if nothing is."""
    for pattern in ("*.safetensors.index.json", "*.bin.index.json"):
        for index in sorted(folder.glob(pattern)):
            return _wrong_shards(folder, index)
    files = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("pytorch_model*.bin"))]
    if not files:
        return f"{folder} has no weights.", f"{AGAIN[:-1]}, or set reinit_weights: true to start from random ones."
    return next((wrong for file in files if (wrong := _wrong_file(file)) is not None), None)


def _wrong_shards(folder: Path, index: Path) -> tuple[str, str] | None:
    """The index and the files must tell the same."""
    try:
        places: dict[str, str] = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        files = sorted(set(places.values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"{index} is damaged.", AGAIN
    lost = [name for name in files if not (folder / name).is_file()]
    if lost:
        return f"{folder} is incomplete: {lost[0]} is missing ({len(lost)} of {len(files)} files).", AGAIN
    for name in files:
        if wrong := _wrong_file(folder / name):
            return wrong
        if name.endswith(".safetensors"):
            held = tensors_of(folder / name)
            absent = [tensor for tensor, place in places.items() if place == name and tensor not in held]
            if absent:
                return f"{index} says that {name} holds {absent[0]}, but it does not.", AGAIN
    return None


def _wrong_file(path: Path) -> tuple[str, str] | None:
    with path.open("rb") as file:
        start = file.read(len(LFS))
    if start == LFS:
        return f"{path} is only a pointer to the weights.", "Run git lfs pull in its folder."
    if path.suffix == ".safetensors":
        try:
            tensors_of(path)
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"{path} is damaged or cut off ({path.stat().st_size:,} bytes).", AGAIN
    # PyTorch's format is a zip archive, whose directory stands at its end; its older one is not.
    elif start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return f"{path} is damaged or cut off ({path.stat().st_size:,} bytes).", AGAIN
    return None


def tensors_of(path: Path) -> set[str]:
    """Names of the tensors in a safetensors file, from its header.

    The format: 8 bytes with the header's length, the header as JSON, then the tensors without gaps
    (https://huggingface.co/docs/safetensors).

    Raises:
        ValueError: the file is not one, or shorter or longer than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("the header is cut off")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    if 8 + length + end != size:
        raise ValueError("the tensors are cut off")
    return set(header)
