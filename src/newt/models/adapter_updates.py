"""What a saved LoRA adapter does to each weight of its base, read from its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from newt.models.adapter_files import WEIGHTS
from newt.models.checkpoint_names import CheckpointNames
from newt.models.lora_math import Update
from newt.support.errors import NewtError

PREFIX = "base_model.model."
PARTS = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_embedding_A": "embedding_a",
    "lora_embedding_B": "embedding_b",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
ROWS = "token_adapter.trainable_tokens_delta"
INITS = ("gaussian", "orthogonal")
UNMERGEABLE = ("use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config", "velora_config",
               "layer_replication", "lora_bias", "alora_invocation_tokens")  # fmt: skip


@dataclass(frozen=True)
class Wrapped:
    """A parameter, such as a layer's experts, that has an adapter of its own.

    Attributes:
        name: full name of the parameter.
        in_out: it is stored as (experts, in, out).
    """

    name: str
    in_out: bool


def read_updates(folder: Path, settings: Mapping[str, Any], base: CheckpointNames) -> dict[str, Update]:
    """Weight name in the model -> what the adapter does to it.

    Args:
        folder: holds the adapter.
        settings: its adapter_config.json.
        base: the model that it fits.

    Raises:
        NewtError: an adapter that cannot be merged exactly tensor by tensor.
    """
    refuse_unmergeable(settings)
    wrapped = _wrapped(folder, base) if settings.get("target_parameters") else {}
    updates: dict[str, Update] = {}
    for key, tensor in load_file(folder / WEIGHTS).items():
        name = key.removeprefix(PREFIX)
        suffix = next((suffix for suffix in (*PARTS, ROWS) if name.endswith(f".{suffix}")), None)
        module = name.removesuffix(f".{suffix}")
        if suffix == ROWS:
            update = updates.setdefault(f"{module}.weight", Update())
            update.rows, update.row_numbers = tensor, _row_numbers(module, settings)
        elif suffix is not None:
            parameter = wrapped.get(module) or Wrapped(f"{module}.weight", in_out=False)
            update = updates.setdefault(parameter.name, Update(in_out=parameter.in_out))
            setattr(update, PARTS[suffix], tensor)
        elif "lora_" in name:
            raise NewtError(f"The adapter's {name} cannot be merged by file: use merge_method: legacy")
        elif ".original_module." not in name:  # what a fully trained module was before
            # A module that was trained in full, or embedding rows that were added.
            name = name.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
            name = name.replace(".token_adapter.", ".")
            updates.setdefault(name, Update()).whole = tensor
    for name, update in updates.items():
        _check_complete(name, update, settings)
    return updates


def refuse_unmergeable(settings: Mapping[str, Any]) -> None:
    """Refuse kinds of adapters that only the whole model in memory can merge.

    Raises:
        NewtError: names the kind.
    """
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise NewtError(f"Adapters of the kind {kind} cannot be merged by file: use merge_method: legacy")
    init = settings.get("init_lora_weights", True)
    if not (isinstance(init, bool) or init in INITS):
        # These begin by taking a part out of the base weights, which the base on disk still has.
        raise NewtError(f"An adapter that began with {init} cannot be merged by file: use merge_method: legacy")
    for name in UNMERGEABLE:
        if settings.get(name):
            raise NewtError(f"An adapter with {name} cannot be merged by file: use merge_method: legacy")


def _wrapped(folder: Path, base: CheckpointNames) -> dict[str, Wrapped]:
    """Module name in the adapter's file -> the parameter that it adapts.

    peft wraps a module once for each of its adapted parameters, and the names say nothing of which is which: so it is
    asked, on a model without weights.
    """
    from peft import LoraConfig, get_peft_model

    try:
        with torch.device("meta"):
            model = get_peft_model(_another(base), LoraConfig.from_pretrained(str(folder)), low_cpu_mem_usage=True)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise NewtError(f"The adapter in {folder} does not fit the base: {' '.join(str(error).split())}") from error
    found = {}
    for name, module in model.get_base_model().named_modules():
        if hasattr(module, "parameter_name") and hasattr(module, "lora_A"):
            owner = re.sub(r"\.base_layer(?=\.|$)", "", name)
            in_out = bool(getattr(module.get_base_layer(), "is_transposed", False))
            found[name] = Wrapped(f"{owner}.{module.parameter_name}", in_out)
    return found


def _another(base: CheckpointNames) -> Any:
    """A second model without weights, which peft may change."""
    return CheckpointNames(base.config, ()).model


def _row_numbers(module: str, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Which rows of an embedding were trained: one list for all, or one for each name."""
    numbers = settings.get("trainable_token_indices") or ()
    if isinstance(numbers, Mapping):
        found = [rows for name, rows in numbers.items() if f".{module}".endswith(f".{name}")]
        if len(found) != 1:
            raise NewtError(f"The adapter does not say which rows of {module} it trained: use merge_method: legacy")
        return tuple(found[0])
    return tuple(numbers)


def _check_complete(name: str, update: Update, settings: Mapping[str, Any]) -> None:
    has_linear, has_embedding = update.a is not None, update.embedding_a is not None
    if has_linear != (update.b is not None) or has_embedding != (update.embedding_b is not None):
        raise NewtError(f"The adapter is incomplete: one of the two matrices of {name} is missing")
    if settings.get("use_dora") and (has_linear or has_embedding) and update.magnitude is None:
        raise NewtError(f"The adapter is incomplete: lora_magnitude_vector of {name} is missing (DoRA)")
    if update.rows is not None and len(update.rows) != len(update.row_numbers):
        raise NewtError(f"The adapter has {len(update.rows)} rows for {name}, its config {len(update.row_numbers)}")
