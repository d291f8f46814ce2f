"""An adapter on disk: its config, and whether it fits a base model."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from newt.support.errors import NewtError
from newt.support.files import write_atomically
from newt.support.log import note

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RELORA = "relora"
"""Folder next to an adapter that was restarted: the base that it fits."""
BASE = "base_model.json"
"""File next to an adapter: what the config of its base said."""
_IGNORED = re.compile(
    r"_.*|.*_token_id|vocab_size|max_position_embeddings|use_cache|(torch_)?dtype|transformers_version|architectures"
    r"|quantization_config|name_or_path|output_.*|.*dropout|.*jitter.*|router_aux_loss_coef|initializer_range|id2label"
    r"|label2id|num_labels|problem_type|return_dict|tie_word_embeddings"
)
"""Keys of a model's config that a run may change, or that say nothing of what the weights compute."""


def adapter_config(folder: Path) -> dict[str, Any]:
    """The content of adapter_config.json.

    Raises:
        NewtError: missing, damaged, or without whole weights next to it.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise NewtError(f"{folder} holds no adapter: {CONFIG} is missing")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NewtError(f"{path} is not valid JSON") from error
    if not isinstance(config, dict):
        raise NewtError(f"{path} is not the config of an adapter")
    if not (folder / WEIGHTS).is_file():
        raise NewtError(f"{folder} holds no adapter: {WEIGHTS} is missing")
    try:
        _shapes(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise NewtError(f"{folder / WEIGHTS} is damaged or cut off. Copy the adapter again") from error
    return dict(config)


def refuse_unknown_fields(saved: Mapping[str, Any], folder: Path) -> None:
    """peft drops settings that it does not know; an adapter computes something else without them.

    Raises:
        NewtError: names the fields.
    """
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

    kind = str(saved.get("peft_type"))
    if kind not in PeftType.__members__:
        raise NewtError(f"{folder / CONFIG}: unknown peft_type {saved.get('peft_type')!r}")
    known = {field.name for field in fields(PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[kind]])}
    unknown = sorted(set(saved) - known)
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], known, n=1)
    hint = f"Did you mean {near[0]}?" if near else "It may come from a newer peft: update peft, or remove them."
    raise NewtError(f"{folder / CONFIG} has fields that the installed peft does not know: {', '.join(unknown)}. {hint}")


def note_ignored(given: Mapping[str, Any], saved: Mapping[str, Any], folder: Path) -> None:
    """Say which of the user's settings an existing adapter has decided already.

    Args:
        given: key -> (name in adapter_config.json, value).
        saved: the adapter's config.
        folder: where it is.
    """
    for key, (name, value) in given.items():
        if _plain(saved.get(name)) != _plain(value):
            note(f"{key}: {_plain(value)} is ignored: the adapter in {folder} has {_plain(saved.get(name))}.")


def _plain(value: Any) -> Any:
    """Order of names does not matter; nothing is nothing."""
    if isinstance(value, list | tuple | set):
        return sorted(value, key=str) or None
    return value or None


def same_base(model: Any, saved: Mapping[str, Any], folder: Path) -> None:
    """An adapter of another base model would load and give nonsense.

    Raises:
        NewtError: names what differs.
    """
    _fitting_shapes(model, saved, folder)
    same_config(model.config, folder)
    trained_on, base = str(saved.get("base_model_name_or_path") or ""), str(model.name_or_path or "")
    if not trained_on or not base or Path(trained_on).name == Path(base).name or (folder / RELORA).is_dir():
        return
    configs = [Path(name) / "config.json" for name in (trained_on, base)]
    differ = ""
    if all(path.is_file() for path in configs):
        one, other = (json.loads(path.read_text(encoding="utf-8")) for path in configs)
        keys = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
        if not keys:
            return
        shown = ", ".join(f"{key} ({one.get(key)}, not {other.get(key)})" for key in keys[:3])
        differ = f" Their configs differ in {shown}."
    raise NewtError(
        f"lora_model_dir: the adapter in {folder} was trained on {trained_on}, but base_model is {base}.{differ} If "
        f"they are the same model, correct base_model_name_or_path in {folder / CONFIG}."
    )


def remember_base(model: Any) -> None:
    """Keep what a base model's config says, for ``write_base``: an adapter may change it (repeated layers)."""
    model.newt_base = _of_base(model.config)


def write_base(model: Any, folder: Path) -> None:
    """Write what ``remember_base`` kept beside the adapter; nothing for a model that never got one here."""
    if (found := getattr(model, "newt_base", None)) is not None:
        write_atomically(folder / BASE, json.dumps(found, indent=2, sort_keys=True) + "\n")


def same_config(config: Any, folder: Path) -> None:
    """Weights of the same shapes compute something else under another config, such as another ``rope_theta``.

    Only keys that both have are compared, since versions of transformers differ in those that they add; an adapter
    without a record, from another program, passes.

    Args:
        config: the transformers config of the base at hand.
        folder: holds the adapter.

    Raises:
        NewtError: names what differs, or the record is damaged.
    """
    path = folder / BASE
    if not path.is_file():
        return
    try:
        then = json.loads(path.read_text(encoding="utf-8"))
        now = _of_base(config)
        differ = [key for key in sorted({*then} & {*now}) if then[key] != now[key]]
    except (ValueError, TypeError) as error:
        raise NewtError(f"{path} is damaged: remove it, and the base's config is not compared") from error
    if differ:
        shown = ", ".join(f"{key} ({then[key]}, not {now[key]})" for key in differ[:3])
        raise NewtError(
            f"lora_model_dir: the adapter in {folder} was trained on a base whose config differs from that of "
            f"base_model: {shown}. Name the base that it was trained on, with the same overrides_of_model_config"
        )


def _of_base(config: Any) -> dict[str, Any]:
    """Dotted key -> value of a transformers config as JSON has it, without what may differ."""
    plain = json.loads(json.dumps(config.get_text_config().to_dict(), default=str))
    return dict(_flat(plain))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if _IGNORED.fullmatch(str(key)):
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _fitting_shapes(model: Any, saved: Mapping[str, Any], folder: Path) -> None:
    """Every adapted linear layer is in the base, with the same number of inputs and outputs."""
    if saved.get("layer_replication") or saved.get("peft_type") != "LORA":
        return
    modules = dict(model.named_modules())
    for key, shape in _shapes(folder / WEIGHTS).items():
        found = re.fullmatch(r"base_model\.model\.(.+)\.lora_(A|B)\.weight", key)
        # Experts and wrapped parameters are stored under names of their own.
        if not found or len(shape) != 2 or ".experts." in f"{found[1]}." or found[1].endswith("base_layer"):
            continue
        name, side = found[1], found[2]
        if name not in modules:
            raise NewtError(f"lora_model_dir: the adapter in {folder} has {name}, which the base model has not")
        what, own = ("in_features", shape[1]) if side == "A" else ("out_features", shape[0])
        size = getattr(modules[name], what, own)
        if own != size:
            raise NewtError(
                f"lora_model_dir: the adapter in {folder} has {what} {own} in {name}, and the base model {size}: it "
                "was trained on another model"
            )


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(path, framework="pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
