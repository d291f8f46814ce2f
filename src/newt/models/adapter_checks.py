"""Whether what the settings of a new adapter name is in the model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from newt.support.errors import NewtError


def is_or_ends_with(full: str, name: str) -> bool:
    """Whether a full name of a module is a name that a list holds, or ends with it."""
    return full == name or full.endswith(f".{name}")


def _check_named(model: Any, key: str, names: str | Sequence[str]) -> None:
    modules = [name for name, _ in model.named_modules() if name]
    if isinstance(names, str):
        if not any(re.fullmatch(names, module) for module in modules):
            raise NewtError(f"{key}: the regular expression {names!r} matches no full module name")
        return
    for name in names:
        if not any(module == name or module.endswith(f".{name}") for module in modules):
            raise NewtError(f"{key}: {no_match(name, modules)}")


def _check_parameters(model: Any, names: Sequence[str]) -> None:
    parameters = [name for name, parameter in model.named_parameters() if parameter.ndim == 3]
    for name in names:
        if not any(full == name or full.endswith(f".{name}") for full in parameters):
            raise NewtError(f"lora_target_parameters: {no_match(name, parameters, 'three-dimensional parameter')}")


def check_options(model: Any, options: Mapping[str, Any]) -> None:
    """What is named is there.

    Args:
        model: a transformers model.
        options: arguments of ``peft.LoraConfig``.

    Raises:
        NewtError: names the key, and what the model has.
    """
    _check_named(model, "lora_modules_to_save", options.get("modules_to_save") or ())
    _check_named(model, "lora_exclude_modules", options.get("exclude_modules") or ())
    _check_parameters(model, options.get("target_parameters") or ())
    _check_layers(model, options)
    _check_rows(model, options.get("trainable_token_indices"))


def _check_layers(model: Any, options: Mapping[str, Any]) -> None:
    count = getattr(model.config, "num_hidden_layers", None)
    if count is None or options.get("layer_replication"):
        return
    for number in options.get("layers_to_transform") or ():
        if number >= count:
            raise NewtError(f"peft_layers_to_transform: there is no layer {number}: the model has {count}, from 0 on")


def _check_rows(model: Any, rows: Mapping[str, Sequence[int]] | Sequence[int] | None) -> None:
    modules = dict(model.named_modules())
    embedding = next(name for name, module in modules.items() if module is model.get_input_embeddings())
    for name, numbers in rows.items() if isinstance(rows, Mapping) else [(embedding, rows or ())]:
        _check_named(model, "peft_trainable_token_indices", (name,))
        found = next(module for full, module in modules.items() if is_or_ends_with(full, name))
        size = getattr(found, "weight", torch.empty(0)).shape[0]
        for number in numbers:
            if number >= size:
                raise NewtError(f"peft_trainable_token_indices: there is no token {number}: {name} has {size} rows")


def check_patterns(model: Any, options: Mapping[str, Any]) -> None:
    """peft passes over a pattern that matches no adapted module; it means one as its ``get_pattern_key`` does.

    Raises:
        NewtError: there is such a pattern.
    """
    adapted = [
        f"{name.replace('.base_layer', '')}.{module.parameter_name}" if hasattr(module, "parameter_name") else name
        for name, module in model.get_base_model().named_modules()
        if hasattr(module, "lora_A")
    ]
    for option in ("rank_pattern", "alpha_pattern"):
        for pattern in options.get(option) or ():
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in adapted):
                raise NewtError(f"lora_{option}: {no_match(pattern, adapted, 'adapted module')}")


def no_match(name: str, full_names: Sequence[str], what: str = "module") -> str:
    """That a name matches nothing, and what it could have been."""
    last = list(dict.fromkeys(full.rpartition(".")[2] for full in full_names))
    last = [part for part in last if not part.isdigit()]
    near = difflib.get_close_matches(name, last, n=1, cutoff=0.5)
    others = [*near, *(part for part in last if part not in near)]
    if re.search(r"[\\*+|()\[^$]", name) and what == "module":
        return f"{name!r} matches no {what}: it looks like a regular expression, and a list holds plain names."
    known = f" The model has: {', '.join(others[:12])}." if others else f" The model has no {what}s of this kind."
    return f"{name!r} matches no {what} of this model.{known}"


def refuse_dora_of_experts(key: str, targets: Collection[str], others: Collection[str]) -> None:
    """DoRA learns a norm for each output of a layer, and peft has none for experts, which are one parameter.

    Args:
        key: what targets them.
        targets: names that mean experts, at least some of the time.
        others: targeted names that do not.

    Raises:
        NewtError: always; says what else could be adapted.
    """
    instead = f", or adapt other layers alone: lora_target_modules: [{', '.join(sorted(others))}]" if others else ""
    raise NewtError(
        f"peft_use_dora: DoRA cannot adapt experts, which are one parameter of a layer, and {key} targets them "
        f"({', '.join(sorted(targets))}). Remove peft_use_dora{instead}"
    )
