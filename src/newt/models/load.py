"""From a load plan to a model that is ready to be trained. Read ``load_model`` from top to bottom."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import set_seed

from newt.config.core import Batch, Model, RunControl, Template
from newt.config.section import Config
from newt.extend import FirstBatches, LoadPlan, Swap
from newt.models.adapters import count_parameters
from newt.models.broken_packages import refuse_broken_conv
from newt.models.dequantized import settle_dequantized
from newt.models.embeddings import (
    align_special_ids,
    check_vocabulary,
    fit_positions,
    let_ends_learn,
    note_untrained_ends,
    refuse_untrained_tokens,
    resize_embeddings,
)
from newt.models.facts import require_model
from newt.models.foreign_code import refuse_foreign_code
from newt.models.kbit import describe, is_quantized, prepare_for_adapter, settle
from newt.models.quantize import check_experts
from newt.models.quiet import quiet
from newt.support.errors import NewtError, one_line

LOADER_ERRORS = (
    OSError, ValueError, KeyError, ImportError, TypeError, RuntimeError, NotImplementedError, AttributeError, EOFError,
    SafetensorError,
)  # fmt: skip


@dataclass
class Loaded:
    """A model with its tokenizer.

    Attributes:
        model: transformers model, or peft's wrapper around one.
        tokenizer: its tokenizer.
        notes: what was decided for the user, one line each.
        trainable: number of trainable parameters.
        total: number of all parameters; shared ones count once.
    """

    model: Any
    tokenizer: Any
    notes: list[str] = field(default_factory=list)
    trainable: int = 0
    total: int = 0


def load_model(plan: LoadPlan, tokenizer: Any, first: FirstBatches | None = None) -> Loaded:
    """Execute a load plan for training.

    Args:
        plan: the load plan.
        tokenizer: the tokenizer of the run.
        first: training data, for an adapter that begins from them.

    Raises:
        NewtError: the checkpoint is incomplete or does not fit, or nothing would be trained.
    """
    cfg, notes = plan.cfg, list(getattr(tokenizer, "newt_notes", ()))
    model = build_model(plan, notes)
    check_vocabulary(model, tokenizer, cfg[Model], notes)
    grown = resize_embeddings(model, len_of(tokenizer), cfg[Model], notes)
    fit_positions(model, max(cfg[Batch].sequence_len, cfg[Batch].eval_length), notes)
    align_special_ids(model, tokenizer, notes)
    let_ends_learn(model, tokenizer)
    model.config.use_cache = False  # a cache is useless in training, and with one packed samples would see each other
    for prepare_base in plan.prepare_base:
        prepare_base(model, notes)
    apply_swaps(model, [swap for swap in plan.swaps if swap.when == "before_adapter"])
    attach = plan.adapter.get()
    if attach is not None:
        # Seeded again, so that the adapter is the same whatever was drawn while the base was built.
        set_seed(cfg[RunControl].seed)
        if is_quantized(model):
            prepare_for_adapter(model, cfg.value("gradient_checkpointing_kwargs"))
        begin = plan.adapter_of_data.get()
        if begin is not None and first is None:
            raise NewtError("peft_init_lora_weights: the adapter begins from training data, and there are none here")
        model = begin(model, first) if begin is not None and first is not None else attach(model)
    apply_swaps(model, [swap for swap in plan.swaps if swap.when == "after_adapter"])
    for prepare in plan.prepare:
        prepare(model)
    shard = plan.distributed.get()
    if shard is not None:
        model = shard(model)
    refuse_untrained_tokens(model, tokenizer, grown)
    note_untrained_ends(model, tokenizer, cfg[Template].eot_tokens or (), notes)
    trainable, total = count_parameters(model)
    if not trainable:
        raise NewtError("Nothing would be trained: every parameter of the model is frozen")
    model.train()
    return Loaded(model, tokenizer, notes, trainable, total)


def len_of(tokenizer: Any) -> int:
    """Number of embedding rows that the tokenizer needs: its ids may have gaps."""
    return int(max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1))


def build_model(plan: LoadPlan, notes: list[str], source: str | None = None) -> Any:
    """The bare transformers model of a plan, with its pretrained (or, if asked for, random) weights.

    Args:
        plan: the load plan.
        notes: gets lines for the user.
        source: folder or Hub id to load instead of ``base_model``.

    Raises:
        NewtError: see ``load_model``.
    """
    model = plan.cfg[Model]
    source = source or model.base_model
    require_model(source, weights=not model.reinit_weights, revision=model.revision_of_model)
    config = read_config(plan.cfg, None if source == model.base_model else source)
    kwargs = _loader_kwargs(plan)
    set_seed(plan.cfg[RunControl].seed)
    loader = _class_of_transformers("type_of_model", model.type_of_model or "AutoModelForCausalLM", "For")
    if model.reinit_weights:
        build = getattr(loader, "from_config", None) or loader._from_config
        notes.append("the model starts from random weights (reinit_weights)")
        return build(config, **kwargs)
    # Always said: where nothing is said, transformers asks on the terminal whether it may run the code.
    kwargs["trust_remote_code"] = model.trust_remote_code
    if model.revision_of_model and source == model.base_model:
        kwargs["revision"] = model.revision_of_model
    # Weights of another shape are reported by ``_check_loading``, in one line and with their names.
    kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
    acknowledged = "quantize_moe_experts" in plan.cfg.given
    if said := check_experts(config, loader, kwargs.get("quantization_config"), acknowledged=acknowledged):
        notes.append(said)
    stored = getattr(config, "quantization_config", None)
    try:
        with quiet():
            built, info = loader.from_pretrained(source, config=config, **kwargs)
    except pickle.UnpicklingError as error:
        what = "its .bin files hold more than numbers, or are damaged; they could run code and are not read"
        raise NewtError(f"base_model: cannot load {source}: {what}. Take the checkpoint as safetensors") from error
    except LOADER_ERRORS as error:
        refuse_foreign_code(error, "base_model", source)
        refuse_broken_conv(error, "base_model", source)
        raise NewtError(f"base_model: cannot load {source}: {one_line(error)}") from error
    _check_loading(source, info, notes)
    if is_quantized(built):
        settle(built)
        notes.append(describe(built))
    elif stored:
        revision = kwargs.get("revision")
        notes.append(settle_dequantized(built, source, stored, kwargs["dtype"], revision))
    return built


def read_config(cfg: Config, source: str | None = None) -> Any:
    """The transformers config of the base model, with ``overrides_of_model_config`` applied.

    Raises:
        NewtError: it cannot be read, or an override names a key that it does not have.
    """
    model = cfg[Model]
    reader = _class_of_transformers("cls_model_config", cfg.value("cls_model_config") or "AutoConfig", "Config")
    source = source or model.base_model_config or model.base_model
    revision = {"revision": model.revision_of_model} if model.revision_of_model and source == model.base_model else {}
    try:
        config = reader.from_pretrained(source, trust_remote_code=model.trust_remote_code, **revision)
    except LOADER_ERRORS as error:
        refuse_foreign_code(error, "base_model", source)
        hint = "" if model.base_model_config else " (base_model_config may name another source)"
        raise NewtError(f"base_model: cannot read the config of {source}: {one_line(error)}{hint}") from error
    return override_config(config, model.overrides_of_model_config or {})


def override_config(config: Any, overrides: Mapping[str, Any]) -> Any:
    """A config with some values replaced; ``rope_parameters`` keeps the base frequency that it does not name.

    Raises:
        NewtError: an unknown key.
    """
    if not overrides:
        return config
    values = config.to_dict()
    for key, value in overrides.items():
        if key not in values and not hasattr(config, key):
            near = difflib.get_close_matches(key, list(values), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise NewtError(f"overrides_of_model_config: {config.model_type} models have no {key!r}.{hint}")
        if key == "rope_parameters" and isinstance(value, dict):
            old = values.get(key) or {}
            kept = {name: old[name] for name in ("rope_theta", "partial_rotary_factor") if name in old}
            value = {**kept, **value}
        elif isinstance(values.get(key), dict) and isinstance(value, dict):
            value = {**values[key], **value}
        values[key] = value
    try:
        return type(config).from_dict(values)
    except (TypeError, ValueError, KeyError) as error:
        raise NewtError(f"overrides_of_model_config: {one_line(error)}") from error


def _loader_kwargs(plan: LoadPlan) -> dict[str, Any]:
    kwargs = dict(plan.kwargs)
    kwargs.setdefault("dtype", "float32")  # transformers would take the checkpoint's, and bfloat16 loses small updates
    for key, value in (plan.cfg[Model].overrides_of_model_kwargs or {}).items():
        if key in plan.kwargs and plan.kwargs[key] != value:
            raise NewtError(f"overrides_of_model_kwargs: {key} is set by {plan.kwargs.by[key]} already: remove one")
        kwargs["dtype" if key == "torch_dtype" else key] = value
    if isinstance(kwargs["dtype"], str) and kwargs["dtype"] != "auto":
        kwargs["dtype"] = getattr(torch, kwargs["dtype"])
    quantize = plan.quantization.get()
    if quantize is not None:
        kwargs["quantization_config"] = quantize()
    return kwargs


def _class_of_transformers(key: str, name: str, kind: str) -> Any:
    """A class by its name, which the user gave as the value of ``key``.

    Raises:
        NewtError: there is none that can load anything.
    """
    import transformers

    found = getattr(transformers, name, None)
    if found is None or not hasattr(found, "from_pretrained"):
        near = difflib.get_close_matches(name, [x for x in dir(transformers) if kind in x], n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        what = "model" if kind == "For" else "config"
        raise NewtError(f"{key}: transformers has no {what} class {name}.{hint}")
    return found


def _check_loading(source: str, info: Mapping[str, Any], notes: list[str]) -> None:
    """Weights that the checkpoint lacks would be random, and the run would look as if nothing were wrong."""
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(entry[0]) for entry in info["mismatched_keys"])
    if missing or mismatched:
        names = [*missing, *mismatched]
        what = "lacks" if missing else "has other shapes for"
        raise NewtError(
            f"base_model: the checkpoint {source} {what} {len(names)} weights that the model needs, such as "
            f"{names[0]}: they would be random. Use a complete checkpoint, or train from scratch (reinit_weights: true)"
        )
    if unexpected := sorted(info["unexpected_keys"]):
        notes.append(
            f"the checkpoint has {len(unexpected)} weights that the model does not use, such as {unexpected[0]}"
        )


def apply_swaps(model: nn.Module, swaps: list[Swap]) -> None:
    """Replace module instances.

    Raises:
        NewtError: a swap found nothing to replace.
    """
    for swap in swaps:
        hits = [name for name, module in model.named_modules() if _is_class(module, swap.old) and name]
        if not hits:
            raise NewtError(f"{swap.by}: this model has no module {swap.old} to replace")
        for name in hits:
            model.set_submodule(name, swap.new(model.get_submodule(name)))


def _is_class(module: nn.Module, path: str) -> bool:
    kind = type(module)
    return f"{kind.__module__}.{kind.__qualname__}" == path
