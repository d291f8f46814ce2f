"""LoRA adapters on a loaded model: attach a new one, load an existing one, count what is trainable.

Paper: https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from newt.models.adapter_checks import (
    check_options,
    check_patterns,
    is_or_ends_with,
    no_match,
    refuse_dora_of_experts,
)
from newt.models.adapter_files import (
    RELORA,
    adapter_config,
    note_ignored,
    refuse_unknown_fields,
    remember_base,
    same_base,
)
from newt.models.freezing import trained_size
from newt.models.kbit import size_of
from newt.models.loftq import begin_loftq, bits_of, round_base, without_loftq
from newt.models.portable import begins_at_random, remember_beginning
from newt.models.relora import load_base
from newt.support.errors import NewtError, one_line
from newt.support.log import note

_FUSED_OUT_PROJ = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
"""Model types whose ``out_proj`` peft refuses (``_check_lora_target_modules_mamba``)."""

PEFT_ERRORS = (ValueError, NotImplementedError, TypeError, ImportError, RuntimeError, AssertionError, LookupError)
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
    loftq, options = bits_of(options), without_loftq(options)
    check_options(model, options)
    tied = shares_embedding(model)
    if tied and _targets_both_ends(model, targets):
        raise NewtError(
            "lora_target_modules: this model's embedding and output layer are one weight, and cannot have an adapter "
            "each. Remove one, or name both in lora_modules_to_save instead."
        )
    if tied and _names_an_end(model, options.get("modules_to_save") or ()):
        options["ensure_weight_tying"] = True
    if options.get("use_dora"):
        _refuse_dora_of_experts(model, targets, linear=linear or modules == "all-linear")
    dropout = options.get("lora_dropout") or 0.0
    if dropout and expert_targets(model, targets):
        options["lora_dropout"] = 0.0
        note(f"lora_dropout: {dropout} applies to the layers; experts are one parameter and have no dropout.")
    remember_base(model)
    try:
        with _no_future_warnings():
            # peft writes into patterns where it adapts experts for names of layers
            given = deepcopy(options)
            config = LoraConfig(target_modules=targets, bias="none", task_type="CAUSAL_LM", **given)
            adapted = get_peft_model(model, config, autocast_adapter_dtype=float32)
    except (*PEFT_ERRORS, LookupError) as error:
        raise NewtError(f"adapter: peft cannot attach it: {one_line(error)}") from error
    if isinstance(targets, str):
        _refuse_others(adapted, targets)
    check_patterns(adapted, options)
    set_dropout(adapted, dropout)
    if begins_at_random(options.get("init_lora_weights")):
        remember_beginning(adapted)
    if loftq:
        begin_loftq(adapted, loftq)
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
    from peft import PeftConfig, PeftModel

    saved = adapter_config(folder)
    refuse_unknown_fields(saved, folder)
    note_ignored({key: pair for key, pair in given.items() if key != "lora_dropout"}, saved, folder)
    same_base(model, saved, folder)
    remember_base(model)
    if (folder / RELORA).is_dir():
        load_base(model, folder / RELORA)
    options: dict[str, Any] = {"torch_device": "cpu"} if on_cpu else {}
    loftq = bits_of(saved)
    if loftq:
        options["config"] = PeftConfig.from_peft_type(**without_loftq(saved))
    try:
        with _no_future_warnings():
            adapted = PeftModel.from_pretrained(
                model, str(folder), is_trainable=trainable, autocast_adapter_dtype=float32, **options
            )
    except (ValueError, RuntimeError, OSError, ImportError, AssertionError) as error:
        raise NewtError(f"lora_model_dir: {folder} does not fit the base model: {one_line(error)}") from error
    if loftq:
        round_base(adapted, loftq)
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


def _refuse_dora_of_experts(model: Any, targets: str | list[str] | None, *, linear: bool) -> None:
    if expert_targets(model, targets):
        names = {targets} if isinstance(targets, str) else set(targets or ())
        others = _converted(model, targets or ())[0] & names
        key = "lora_target_linear" if linear else "lora_target_modules"
        refuse_dora_of_experts(key, names - others or names, others if names - others else ())


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
        raise NewtError(f"lora_target_modules: {one_line(error)}") from error
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
    missing = [name for name in names if not any(is_or_ends_with(full, name) for full in candidates)]
    for name in missing:
        if name in _converted(model, names)[0]:
            raise NewtError(f"lora_target_modules: {no_match(name, candidates)}")
    if linear:
        names += [name for name in linear_names(model) if name not in names]
    return _inside_wrappers(model, names) or None


def _inside_wrappers(model: Any, names: list[str]) -> list[str]:
    """Layers that clip what goes through a linear layer get the adapter inside: all names become full ones."""
    modules = dict(model.named_modules())
    hits = [full for full in modules if any(is_or_ends_with(full, name) for name in names)]
    if not any(_wraps_linear(modules[full]) for full in hits):
        return names
    inside = [f"{full}.linear" if _wraps_linear(modules[full]) else full for full in hits]
    return list(dict.fromkeys(name for name in inside if not _wraps_linear(modules[name])))


def _wraps_linear(module: nn.Module) -> bool:
    return type(module).__name__.endswith("ClippableLinear") and isinstance(getattr(module, "linear", None), nn.Linear)


def linear_names(model: Any) -> list[str]:
    """Last name parts of all linear layers except the output layer, in order of appearance.

    A layer in a list has a number for its last part, which other modules have too: it keeps its full name. Layers that
    peft refuses, because a kernel reads their weight and would pass an adapter by, are left out.
    """
    head = model.get_output_embeddings()
    found = [name for name, module in model.named_modules() if _is_linear(module) and module is not head]
    last = {name: name.rpartition(".")[2] for name in found}
    names = dict.fromkeys(full if part.isdigit() else part for full, part in last.items())
    return [name for name in names if name != "out_proj" or model.config.model_type not in _FUSED_OUT_PROJ]


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
    candidates = list(adaptable(model))
    if not any(re.fullmatch(pattern, name) for name in candidates):
        hint = f" A list of names is written [{pattern}]." if re.fullmatch(r"\w+", pattern) else ""
        raise NewtError(
            f"lora_target_modules: the regular expression {pattern!r} matches no full module name, such as "
            f"{candidates[len(candidates) // 2]!r}.{hint}"
        )
    return pattern


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
    return any(is_or_ends_with(end, name) for end in full for name in names)


def shares_embedding(model: Any) -> bool:
    """Whether the input embedding and the output layer are one weight."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; a shared one counts once."""
    trainable = sum(trained_size(parameter) for parameter in model.parameters())
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
        warnings.filterwarnings("ignore", "The following (rank|alpha)_pattern keys")  # which is an error here
        yield
