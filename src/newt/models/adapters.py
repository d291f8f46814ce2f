"""LoRA adapters on a loaded model: attach a new one, load an existing one, count what is trainable.

Paper: https://arxiv.org/abs/2106.09685
"""

from __future__ import annotations

import difflib
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from newt.support.errors import NewtError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def attach_lora(model: Any, modules: str | Sequence[str] | None, *, linear: bool, options: Mapping[str, Any]) -> Any:
    """The model wrapped with a new LoRA adapter, whose weights are float32 and trainable; all others are frozen.

    Args:
        model: a transformers model.
        modules: names (``q_proj``), or one regular expression that must match full names.
        linear: also target every linear layer except the output layer.
        options: further arguments of ``peft.LoraConfig``.

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
    if tied and options.get("modules_to_save"):
        options["ensure_weight_tying"] = True
    config = LoraConfig(target_modules=targets, bias="none", task_type="CAUSAL_LM", **options)
    try:
        with _no_future_warnings():
            return get_peft_model(model, config)
    except (ValueError, NotImplementedError, TypeError) as error:
        raise NewtError(f"adapter: peft cannot attach it: {_one_line(error)}") from error


def load_lora(model: Any, folder: Path, *, trainable: bool, expected: Mapping[str, Any] | None = None) -> Any:
    """The model with the adapter of a folder.

    Args:
        model: the base model that the adapter was trained on.
        folder: holds adapter_config.json and the adapter's weights.
        trainable: the adapter will be trained further.
        expected: options of the config that must equal the adapter's.

    Raises:
        NewtError: no adapter, an adapter of another base model, or other options.
    """
    from peft import PeftModel

    saved = adapter_config(folder)
    for name, value in (expected or {}).items():
        if saved.get(name) != value:
            raise NewtError(
                f"lora_model_dir: {folder} has {name} {saved.get(name)}, not {value}: remove it or set it so"
            )
    _same_base(model, saved, folder)
    try:
        with _no_future_warnings():
            return PeftModel.from_pretrained(model, str(folder), is_trainable=trainable)
    except (ValueError, RuntimeError, OSError) as error:
        raise NewtError(f"lora_model_dir: {folder} does not fit the base model: {_one_line(error)}") from error


def adapter_config(folder: Path) -> dict[str, Any]:
    """The content of adapter_config.json.

    Raises:
        NewtError: missing, damaged, or without weights next to it.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise NewtError(f"{folder} holds no adapter: {CONFIG} is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NewtError(f"{path} is not valid JSON") from error
    if not (folder / WEIGHTS).is_file():
        raise NewtError(f"{folder} holds no adapter: {WEIGHTS} is missing")
    return dict(config)


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
    for name in names:
        if not any(full == name or full.endswith(f".{name}") for full in candidates):
            raise NewtError(f"lora_target_modules: {_no_match(name, candidates)}")
    if linear:
        names += [name for name in linear_names(model) if name not in names]
    return names or None


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


def shares_embedding(model: Any) -> bool:
    """Whether the input embedding and the output layer are one weight."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def _same_base(model: Any, saved: Mapping[str, Any], folder: Path) -> None:
    """An adapter of another base model would load and give nonsense."""
    trained_on, base = str(saved.get("base_model_name_or_path") or ""), str(model.name_or_path or "")
    if not trained_on or not base or Path(trained_on).name == Path(base).name:
        return
    configs = [Path(name) / "config.json" for name in (trained_on, base)]
    if all(path.is_file() for path in configs) and configs[0].read_bytes() == configs[1].read_bytes():
        return
    raise NewtError(
        f"lora_model_dir: the adapter in {folder} was trained on {trained_on}, but base_model is {base}. If they are "
        f"the same model, correct base_model_name_or_path in {folder / CONFIG}."
    )


def trainable_table(model: nn.Module) -> list[tuple[str, int, int]]:
    """(kind of module, trainable parameters, all parameters), largest trainable count first.

    The kind is the last part of the module's name without an adapter's own parts, such as ``q_proj``.
    """
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, parameter in model.named_parameters():
        parts = [p for p in name.split(".")[:-1] if not p.startswith("lora_") and p not in ("default", "base_layer")]
        row = counts[parts[-1] if parts else name]
        row[0] += parameter.numel() if parameter.requires_grad else 0
        row[1] += parameter.numel()
    rows = [(kind, trainable, total) for kind, (trainable, total) in counts.items()]
    return sorted(rows, key=lambda row: (-row[1], -row[2], row[0]))


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; a shared one counts once."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return trainable, sum(parameter.numel() for parameter in model.parameters())


def in_float32(model: nn.Module) -> None:
    """Hold every trainable floating-point parameter in float32, so that small updates are not rounded away."""
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()


@contextmanager
def _no_future_warnings() -> Iterator[None]:
    """What peft still calls by an old name in transformers is nothing that a user can change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
