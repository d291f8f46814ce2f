"""Weights of a checkpoint back into the model, exactly: every tensor finds its place, or it is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from newt.models.portable import without_beginning
from newt.support.errors import CheckpointError


def load_weights(model: Any, folder: Path) -> None:
    """Load the weights of a full model, or those of an adapter.

    Raises:
        CheckpointError: the checkpoint belongs to another model.
    """
    if getattr(model, "peft_config", None):
        _load_adapter(model, folder)
    else:
        _load_model(model, folder)


def _load_adapter(model: Any, folder: Path) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    name = model.active_adapter
    state = without_beginning(model, load_file(folder / "adapter_model.safetensors"))
    expected = set(get_peft_model_state_dict(model, adapter_name=name))
    _compare(folder, expected, set(state))
    set_peft_model_state_dict(model, state, adapter_name=name)


def _load_model(model: Any, folder: Path) -> None:
    state: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        state.update(load_file(file))
    expected = _untied(model)
    if set(state) != expected:
        # The layout on disk may differ from that of the modules (fused experts); from_pretrained knows how to convert.
        state = type(model).from_pretrained(folder, dtype="auto", device_map=None).state_dict()
        _compare(folder, expected, set(state) & expected)
    model.load_state_dict(state, strict=False)


def _untied(model: Any) -> set[str]:
    """Names of the tensors that a checkpoint holds: of those that share memory, the first one."""
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    return set(model.state_dict()) - tied - ignored


def _compare(folder: Path, expected: set[str], found: set[str]) -> None:
    wrong = sorted(expected ^ found)
    if wrong:
        raise CheckpointError(f"{folder} belongs to another model: {len(wrong)} tensors differ, such as {wrong[0]}")
