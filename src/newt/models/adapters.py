"""LoRA adapters on a loaded model: attach a new one, load an existing one, count what is trainable.

Paper: https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from newt.models.adapter_files import RELORA, adapter_config, note_ignored, refuse_unknown_fields, same_base
from newt.models.kbit import size_of
from newt.models.portable import begins_at_random, remember_beginning
from newt.models.relora import load_base
from newt.support.errors import NewtError
from newt.support.log import note

PEFT_ERRORS = (ValueError, NotImplementedError, TypeError, ImportError, RuntimeError, AssertionError, IndexError)
"""What peft says about settings that do not fit a model."""


def attach_lora(
    model: Any,
    modules: str | Sequence[str] | None,
    *,
    linear: bool,
    options: Mapping[str, Any],
    float32: bool = True,
) -> Any:
    """The model wrapped with a new LoRA adapter, whose weights are trainable; all others are frozen.

    Args:
        model: a transformers model.
        modules: names (``q_proj``), or one regular expression that must match full names.
        linear: also target every linear layer except the output layer.
        options: further arguments of ``peft.LoraConfig``; not changed.
        float32: hold the adapter in float32, whatever the base's number type.

    Raises:
        NewtError: a name matches no module, nothing is targeted, or the targets cannot be merged later.
    """
    from peft import LoraConfig, get_peft_model

    targets = target_modules(model, modules, linear)
    options = dict(options)
    _check_named(model, "lora_modules_to_save", options.get("modules_to_save") or ())
    _check_named(model, "lora_exclude_modules", options.get("exclude_modules") or ())
    _check_parameters(model, options.get("target_parameters") or ())
    tied = shares_embedding(model)
    if tied and _targets_both_ends(model, targets):
        raise NewtError(
            "lora_target_modules: this model's embedding and output layer are one weight, and cannot have an adapter "
            "each. Remove one, or name both in lora_modules_to_save instead."
        )
    if tied and _names_an_end(model, options.get("modules_to_save") or ()):
        options["ensure_weight_tying"] = True
    dropout = options.get("lora_dropout") or 0.0
    if dropout and expert_targets(model, targets):
        options["lora_dropout"] = 0.0
        note(f"lora_dropout: {dropout} applies to the layers; experts are one parameter and have no dropout.")
    try:
        with _no_future_warnings():
            config = LoraConfig(target_modules=targets, bias="none", task_type="CAUSAL_LM", **options)
            adapted = get_peft_model(model, config, autocast_adapter_dtype=float32)
    except (
        ValueError,
        NotImplementedError,
        TypeError,
        ImportError,
        RuntimeError,
        AssertionError,
        LookupError,
    ) as error:
        raise NewtError(f"adapter: peft cannot attach it: {_one_line(error)}") from error
    if isinstance(targets, str):
        _refuse_others(adapted, targets)
    set_dropout(adapted, dropout)
    if begins_at_random(options.get("init_lora_weights")):
        remember_beginning(adapted)
    return adapted


def load_lora(
    model: Any,
    folder: Path,
    *,
    trainable: bool,
    given: Mapping[str, tuple[str, Any]] = MappingProxyType({}),
    float32: bool = True,
    on_cpu: bool = False,
) -> Any:
    """The model with the adapter of a folder.

    Args:
        model: the base model that the adapter was trained on.
        folder: holds adapter_config.json and the adapter's weights; after ReLoRA also the base that they fit.
        trainable: the adapter will be trained further.
        given: what the user wrote: key -> (name in adapter_config.json, value). The adapter's own values win, except
            for the dropout; the user is told.
        float32: hold the adapter in float32, whatever the base's number type.
        on_cpu: read the weights into the CPU's memory first.

    Raises:
        NewtError: no adapter, or an adapter of another base model.
    """
    from peft import PeftModel

    saved = adapter_config(folder)
    refuse_unknown_fields(saved, folder)
    note_ignored({key: pair for key, pair in given.items() if key != "lora_dropout"}, saved, folder)
    same_base(model, saved, folder)
    if (folder / RELORA).is_dir():
        load_base(model, folder / RELORA)
    options = {"torch_device": "cpu"} if on_cpu else {}
    try:
        with _no_future_warnings():
            adapted = PeftModel.from_pretrained(
                model, str(folder), is_trainable=trainable, autocast_adapter_dtype=float32, **options
            )
    except (ValueError, RuntimeError, OSError, ImportError, AssertionError) as error:
        raise NewtError(f"lora_model_dir: {folder} does not fit the base model: {_one_line(error)}") from error
    if trainable and "lora_dropout" in given:
        set_dropout(adapted, given["lora_dropout"][1])
    return adapted


def set_dropout(model: Any, dropout: float) -> None:
    """Give every adapted layer this dropout. Experts, which are parameters, have none."""
    for module in model.modules():
        if hasattr(module, "lora_dropout") and not hasattr(module, "parameter_name"):
            for name in module.lora_dropout:
                module.lora_dropout[name] = nn.Dropout(dropout) if dropout else nn.Identity()


def expert_targets(model: Any, targets: str | Sequence[str] | None) -> set[str]:
    """Parameters of experts that peft would adapt for names of layers that transformers has fused into them.

    Raises:
        NewtError: only a part of what is fused is named.
    """
    return _converted(model, targets)[1] if targets else set()


def _converted(model: Any, targets: str | Sequence[str]) -> tuple[set[str], set[str]]:
    """(names that stay modules, names of parameters that others became), tried on a config that is thrown away."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import (
        convert_peft_config_for_transformers,
        get_model_conversion_mapping,
    )

    probe = LoraConfig(target_modules=targets if isinstance(targets, str) else list(targets))
    try:
        convert_peft_config_for_transformers(probe, model=model, conversions=get_model_conversion_mapping(model))
    except ValueError as error:
        raise NewtError(f"lora_target_modules: {_one_line(error)}") from error
    left = {probe.target_modules} if isinstance(probe.target_modules, str) else set(probe.target_modules or ())
    return left, set(probe.target_parameters or ())


def _refuse_others(model: Any, pattern: str) -> None:
    """In some models with experts peft widens an expression to all modules with the same last name."""
    for name, module in model.get_base_model().named_modules():
        if hasattr(module, "lora_A") and not hasattr(module, "parameter_name") and not re.fullmatch(pattern, name):
            kind = model.config.model_type
            raise NewtError(
                f"lora_target_modules: in {kind} models peft also adapts {name}, which the regular expression does not "
                "match. Use a list of names, with peft_layers_to_transform for some layers only."
            )


def target_modules(model: Any, modules: str | Sequence[str] | None, linear: bool) -> str | list[str] | None:
    """Names (or the regular expression) that peft will look for.

    Raises:
        NewtError: one of them matches no module that can have an adapter.
    """
    if isinstance(modules, str):
        if modules != "all-linear":
            return _checked_pattern(model, modules)
        modules, linear = (), True
    names = list(modules or ())
    candidates = list(adaptable(model))
    missing = [name for name in names if not any(_is_or_ends_with(full, name) for full in candidates)]
    for name in missing:
        if name in _converted(model, names)[0]:
            raise NewtError(f"lora_target_modules: {_no_match(name, candidates)}")
    if linear:
        names += [name for name in linear_names(model) if name not in names]
    return _inside_wrappers(model, names) or None


def _inside_wrappers(model: Any, names: list[str]) -> list[str]:
    """Layers that clip what goes through a linear layer get the adapter inside: all names become full ones."""
    modules = dict(model.named_modules())
    hits = [full for full in modules if any(_is_or_ends_with(full, name) for name in names)]
    if not any(_wraps_linear(modules[full]) for full in hits):
        return names
    inside = [f"{full}.linear" if _wraps_linear(modules[full]) else full for full in hits]
    return list(dict.fromkeys(name for name in inside if not _wraps_linear(modules[name])))


def _wraps_linear(module: nn.Module) -> bool:
    return type(module).__name__.endswith("ClippableLinear") and isinstance(getattr(module, "linear", None), nn.Linear)


def _is_or_ends_with(full: str, name: str) -> bool:
    return full == name or full.endswith(f".{name}")


def linear_names(model: Any) -> list[str]:
    """Last name parts of all linear layers except the output layer, in order of appearance."""
    head = model.get_output_embeddings()
    found = [name for name, module in model.named_modules() if _is_linear(module) and module is not head]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in found))


def adaptable(model: Any) -> Iterator[str]:
    """Full names of the modules that can have an adapter."""
    for name, module in model.named_modules():
        if _is_linear(module) or isinstance(module, nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            yield name


def _is_linear(module: nn.Module) -> bool:
    # GPT-2 calls its linear layer Conv1D; quantized layers are called Linear4bit and the like.
    kind = type(module).__name__
    if "Router" in kind:  # a linear layer by inheritance that returns scores and choices
        return False
    return isinstance(module, nn.Linear) or kind == "Conv1D" or ("Linear" in kind and hasattr(module, "weight"))


def _checked_pattern(model: Any, pattern: str) -> str:
    # Activation checkpointing may put a segment into a name that the user's expression cannot know of.
    candidates = list(adaptable(model))
    if not any(re.fullmatch(pattern, name) for name in candidates):
        hint = f" A list of names is written [{pattern}]." if re.fullmatch(r"\w+", pattern) else ""
        raise NewtError(
            f"lora_target_modules: the regular expression {pattern!r} matches no full module name, such as "
            f"{candidates[len(candidates) // 2]!r}.{hint}"
        )
    return pattern


def _check_named(model: Any, key: str, names: str | Sequence[str]) -> None:
    modules = [name for name, _ in model.named_modules() if name]
    if isinstance(names, str):
        if not any(re.fullmatch(names, module) for module in modules):
            raise NewtError(f"{key}: the regular expression {names!r} matches no full module name")
        return
    for name in names:
        if not any(module == name or module.endswith(f".{name}") for module in modules):
            raise NewtError(f"{key}: {_no_match(name, modules)}")


def _check_parameters(model: Any, names: Sequence[str]) -> None:
    parameters = [name for name, parameter in model.named_parameters() if parameter.ndim == 3]
    for name in names:
        if not any(full == name or full.endswith(f".{name}") for full in parameters):
            raise NewtError(f"lora_target_parameters: {_no_match(name, parameters, 'three-dimensional parameter')}")


def _no_match(name: str, full_names: Sequence[str], what: str = "module") -> str:
    last = list(dict.fromkeys(full.rpartition(".")[2] for full in full_names))
    last = [part for part in last if not part.isdigit()]
    near = difflib.get_close_matches(name, last, n=1, cutoff=0.5)
    others = [*near, *(part for part in last if part not in near)]
    known = f" The model has: {', '.join(others[:12])}." if others else f" The model has no {what}s of this kind."
    return f"{name!r} matches no {what} of this model.{known}"


def _targets_both_ends(model: Any, targets: str | list[str] | None) -> bool:
    ends = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    hit = 0
    for name, module in model.named_modules():
        if id(module) in ends:
            if isinstance(targets, str):
                hit += bool(re.fullmatch(targets, name))
            else:
                hit += any(name == target or name.endswith(f".{target}") for target in targets or ())
    return hit > 1


def _names_an_end(model: Any, names: Sequence[str]) -> bool:
    ends = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    full = (name for name, module in model.named_modules() if id(module) in ends)
    return any(_is_or_ends_with(end, name) for end in full for name in names)


def shares_embedding(model: Any) -> bool:
    """Whether the input embedding and the output layer are one weight."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; a shared one counts once."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trainable, sum(size_of(parameter) for parameter in model.parameters())


def in_float32(model: nn.Module) -> None:
    """Hold every trainable floating-point parameter in float32, so that small updates are not rounded away."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point() and parameter.itemsize < 4:
            parameter.data = parameter.data.float()


@contextmanager
def _no_future_warnings() -> Iterator[None]:
    """What peft still calls by an old name in transformers is nothing that a user can change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
