"""Put a LoRA adapter into the weights of its base model, one tensor at a time, and prove that nothing was lost.

The arithmetic is float32 (see ``lora_math``); results are stored in the number type of the base weight.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from newt.config.core import Model
from newt.config.section import Config
from newt.models.adapter_files import RELORA, WEIGHTS, adapter_config
from newt.models.facts import require_model
from newt.models.lora_math import Update, merged_weight
from newt.models.portable import begins_at_random
from newt.models.quantize import Held, read_record
from newt.models.special_ids import follow_tokenizer
from newt.models.verify import Verified, verify_merge
from newt.support.errors import NewtError
from newt.support.files import atomic_dir

PREFIX = "base_model.model."
INDEX = "model.safetensors.index.json"
PARTS = {
    "lora_A.weight": "a",
    "lora_B.weight": "b",
    "lora_embedding_A": "embedding_a",
    "lora_embedding_B": "embedding_b",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
}
TOKENIZER = re.compile(
    r"tokenizer.*|special_tokens_map\.json|added_tokens\.json|vocab\..*|merges\.txt|chat_template.*|tekken\.json|spiece\.model"
)
WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
INITS = ("gaussian", "orthogonal")
UNMERGEABLE = ("use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config", "velora_config",
               "layer_replication", "trainable_token_indices", "lora_bias", "alora_invocation_tokens")  # fmt: skip


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Attributes:
        output_dir: folder of the merged model.
        merged: weights that were changed.
        adapted: weights that the adapter changes; equal to ``merged``, or the merge would have failed.
        max_difference: largest absolute difference of logits between the merged model and base + adapter.
        tolerance: largest difference that rounding explains.
        adapter_effect: largest absolute difference of logits between base and base + adapter.
        notes: what the user should know.
    """

    output_dir: Path
    merged: int
    adapted: int
    max_difference: float = math.nan
    tolerance: float = math.nan
    adapter_effect: float = math.nan
    notes: tuple[str, ...] = ()


@dataclass
class _Plan:
    updates: dict[str, Update]
    settings: Mapping[str, Any]
    held: Held | None = None
    quantized: dict[str, bool] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def merge_lora(
    cfg: Config,
    adapter_dir: Path,
    output_dir: Path,
    *,
    method: Literal["memory_efficient", "legacy"] = "memory_efficient",
    verify: bool = True,
) -> MergeReport:
    """Merge an adapter into ``base_model`` and compare the result with base + adapter.

    Args:
        cfg: names the base model.
        adapter_dir: folder of the adapter; its tokenizer and chat template go with the merged model.
        output_dir: folder to make; it appears only if all went well.
        method: tensor by tensor over the files, or with the whole model in memory.
        verify: load both models and compare their logits.

    Raises:
        NewtError: the adapter does not fit, cannot be merged without loss, or the comparison failed.
    """
    settings = adapter_config(adapter_dir)
    _refuse_random_beginning(settings)
    base = adapter_dir / RELORA
    if not base.is_dir():
        base = _base_folder(cfg)
    _refuse_quantized(base)
    held = read_record(adapter_dir, cfg)
    if output_dir.is_dir() and any(output_dir.iterdir()) and not (output_dir / "config.json").is_file():
        raise NewtError(f"{output_dir} holds something that is not a model: name another folder")
    with atomic_dir(output_dir) as folder:
        if method == "legacy":
            from newt.models.verify import merge_in_memory

            report = MergeReport(output_dir, *merge_in_memory(base, adapter_dir, folder, held))
        else:
            report = _merge_files(base, adapter_dir, folder, settings, held)
        if held is not None:
            report = replace(report, notes=(*report.notes, _NOTE_HELD))
        if _copy_others(base, adapter_dir, folder):
            report = replace(report, notes=(*report.notes, *follow_tokenizer(folder)))
        if verify:
            report = _checked(report, verify_merge(base, adapter_dir, folder, held), method)
        report = replace(report, output_dir=output_dir)
    return report


_NOTE_HELD = "weights that were held in 4 bits in training are merged as they were then: quantized and given back"


def _refuse_quantized(base: Path) -> None:
    """Weights that are stored in few bits cannot take an update."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    stored = config.get("quantization_config")
    if stored is not None:
        raise NewtError(
            f"base_model: the weights in {base} are quantized ({stored.get('quant_method', 'unknown method')}): name "
            "the checkpoint that they were made from, and the adapter is merged into that"
        )


def _checked(report: MergeReport, found: Verified, method: str) -> MergeReport:
    other = "legacy" if method == "memory_efficient" else "memory_efficient"
    if not found.max_difference <= found.tolerance:  # also when it is not a number
        raise NewtError(
            f"The merged model differs from base + adapter: logits by {found.max_difference:.3g}, of which rounding "
            f"explains {found.tolerance:.3g}. Nothing was written. Try merge_method: {other}"
        )
    notes = report.notes
    if 0 < found.adapter_effect <= found.tolerance:
        notes += (f"the adapter changes logits by only {found.adapter_effect:.2g}, no more than rounding does",)
    return replace(
        report,
        max_difference=found.max_difference,
        tolerance=found.tolerance,
        adapter_effect=found.adapter_effect,
        notes=notes,
    )


def _base_folder(cfg: Config) -> Path:
    model = cfg[Model]
    require_model(model.base_model, revision=model.revision_of_model)
    folder = Path(model.base_model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model.base_model, revision=model.revision_of_model))


# --------------------------------------------------------------------------- the adapter


def _read_updates(folder: Path, settings: Mapping[str, Any]) -> dict[str, Update]:
    """Weight name -> what the adapter does to it.

    Raises:
        NewtError: an adapter that this method cannot merge exactly.
    """
    _refuse_unmergeable(settings)
    updates: dict[str, Update] = {}
    for key, tensor in load_file(folder / WEIGHTS).items():
        name = key.removeprefix(PREFIX)
        for suffix, part in PARTS.items():
            if name.endswith(f".{suffix}"):
                update = updates.setdefault(f"{name.removesuffix('.' + suffix)}.weight", Update())
                setattr(update, part, tensor)
                break
        else:
            if "lora_" in name:
                raise NewtError(f"The adapter's {name} cannot be merged by file: use merge_method: legacy")
            # A module that was trained in full, or embedding rows that were added.
            if ".original_module." not in name:  # what a fully trained module was before
                name = name.replace(".base_layer.", ".").replace(".modules_to_save.", ".")
                updates.setdefault(name, Update()).whole = tensor
    for name, update in updates.items():
        _check_complete(name, update, settings)
    return updates


def _refuse_random_beginning(settings: Mapping[str, Any]) -> None:
    if begins_at_random(settings.get("init_lora_weights")):
        raise NewtError(
            f"The adapter began with {settings['init_lora_weights']}, which takes a random part out of the base: what "
            "it fits cannot be found again. The adapter that a finished run writes has no such beginning: merge that"
        )


def _refuse_unmergeable(settings: Mapping[str, Any]) -> None:
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise NewtError(f"Adapters of the kind {kind} cannot be merged by file: use merge_method: legacy")
    if settings.get("target_parameters"):
        raise NewtError("lora_target_parameters cannot be merged by file: use merge_method: legacy")
    init = settings.get("init_lora_weights", True)
    if not (isinstance(init, bool) or init in INITS):
        # These begin by taking a part out of the base weights, which the base on disk still has.
        raise NewtError(f"An adapter that began with {init} cannot be merged by file: use merge_method: legacy")
    for name in UNMERGEABLE:
        if settings.get(name):
            raise NewtError(f"An adapter with {name} cannot be merged by file: use merge_method: legacy")


def _check_complete(name: str, update: Update, settings: Mapping[str, Any]) -> None:
    has_linear, has_embedding = update.a is not None, update.embedding_a is not None
    if has_linear != (update.b is not None) or has_embedding != (update.embedding_b is not None):
        raise NewtError(f"The adapter is incomplete: one of the two matrices of {name} is missing")
    if settings.get("use_dora") and (has_linear or has_embedding) and update.magnitude is None:
        raise NewtError(f"The adapter is incomplete: lora_magnitude_vector of {name} is missing (DoRA)")


# --------------------------------------------------------------------------- the files


def _merge_files(
    base: Path, adapter: Path, folder: Path, settings: Mapping[str, Any], held: Held | None
) -> MergeReport:
    plan = _Plan(_read_updates(adapter, settings), settings, held)
    shards = _shards(base)
    names = {name: shard for shard in shards for name in _names(base / shard)}
    plan.updates = {_find(name, names, base): update for name, update in plan.updates.items()}
    plan.quantized = _find_quantized(held, names, base)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    extra = _untie(plan, names, config)
    index: dict[str, str] = {}
    size = 0
    for number, shard in enumerate(shards):
        tensors = dict(_merged_shard(base / shard, plan))
        if number == len(shards) - 1:
            tensors.update(_extra_heads(base, names, extra, plan))
        save_file(tensors, folder / shard, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, shard))
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        _note_rows(tensors, plan, config)
    left = sorted(set(plan.updates) - plan.done)
    if left:
        raise NewtError(
            f"{len(left)} weights of the adapter belong to nothing in the base model: {', '.join(left[:5])}"
        )
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if len(shards) > 1:
        content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}
        (folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return MergeReport(folder, len(plan.done), len(plan.updates), notes=tuple(plan.notes))


def _shards(base: Path) -> list[str]:
    index = base / INDEX
    if index.is_file():
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    if (base / "model.safetensors").is_file():
        return ["model.safetensors"]
    raise NewtError(f"{base} has no model.safetensors: use merge_method: legacy")


def _names(shard: Path) -> list[str]:
    with safe_open(shard, framework="pt") as file:
        return list(file.keys())


def _find(name: str, names: Mapping[str, str], base: Path) -> str:
    """The checkpoint's name of a weight: composite models are stored with other prefixes than they have in memory."""
    if name in names or name == "lm_head.weight":
        return name
    bare = re.sub(r"^(model\.)?(language_model\.)?(model\.)?", "", name)
    prefixes = ("", "model.", "model.language_model.", "language_model.model.", "model.language_model.model.")
    found = [prefix + bare for prefix in prefixes if prefix + bare in names]
    if len(found) == 1:
        return found[0]
    raise NewtError(f"The adapter's {name} belongs to nothing in {base}: was it trained on another base model?")


def _find_quantized(held: Held | None, names: Mapping[str, str], base: Path) -> dict[str, bool]:
    """The checkpoint's names of the weights that were held in 4 bits -> they are stored as (in, out)."""
    if held is None:
        return {}
    from transformers import AutoConfig

    wanted = held.names(AutoConfig.from_pretrained(str(base)))
    try:
        return {_find(name, names, base): transposed for name, transposed in wanted.items()}
    except NewtError as error:
        # Experts that stand apart in the files were quantized as one parameter.
        raise NewtError("The base's quantized weights are named otherwise on disk: use merge_method: legacy") from error


def _untie(plan: _Plan, names: Mapping[str, str], config: dict[str, Any]) -> dict[str, str]:
    """Weights to write although the checkpoint has none: an output layer that shares the embedding's weight.

    It stays shared if the adapter treats both alike; otherwise it gets a weight of its own.

    Returns:
        name of the new weight -> name of the weight that it begins with.
    """
    head = "lm_head.weight"
    embedding = next((name for name in names if name.endswith("embed_tokens.weight")), None)
    if head in names or embedding is None:
        return {}
    ours, theirs = plan.updates.get(head), plan.updates.get(embedding)
    if ours is None and theirs is None:
        return {}
    if ours is not None and theirs is not None and _same(ours, theirs):
        plan.done.add(head)
        return {}
    only_saved = ours is None and theirs is not None and theirs.a is None and theirs.embedding_a is None
    if only_saved and plan.settings.get("ensure_weight_tying"):
        return {}
    for section in (config, config.get("text_config") or {}):
        if "tie_word_embeddings" in section or section is config:
            section["tie_word_embeddings"] = False
    plan.notes.append("the output layer and the embedding are no longer one weight: the adapter changed them apart")
    return {head: embedding}


def _same(one: Update, other: Update) -> bool:
    factors = (one.a, other.a, one.embedding_a, other.embedding_a)
    if one.whole is None or other.whole is None or any(factor is not None for factor in factors):
        return False
    return torch.equal(one.whole, other.whole)


def _merged_shard(path: Path, plan: _Plan) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a dict)
            tensor = file.get_tensor(name)
            stored = tensor.dtype
            if plan.held is not None and name in plan.quantized:
                tensor = plan.held.through(tensor, transposed=plan.quantized[name])
            update = plan.updates.get(name)
            if update is not None:
                tensor = merged_weight(tensor, update, name, plan.settings)
                plan.done.add(name)
            yield name, tensor.to(stored).contiguous()


def _extra_heads(
    base: Path, names: Mapping[str, str], extra: Mapping[str, str], plan: _Plan
) -> Iterator[tuple[str, Tensor]]:
    for name, origin in extra.items():
        with safe_open(base / names[origin], framework="pt") as file:
            tensor = file.get_tensor(origin)
        update = plan.updates.get(name)
        if update is not None:
            tensor = merged_weight(tensor, update, name, plan.settings)
            plan.done.add(name)
        yield name, tensor.clone()


def _note_rows(tensors: Mapping[str, Tensor], plan: _Plan, config: dict[str, Any]) -> None:
    """The vocabulary size follows the embedding."""
    for name, tensor in tensors.items():
        if name.endswith("embed_tokens.weight") and name in plan.done:
            section = config["text_config"] if "vocab_size" in (config.get("text_config") or {}) else config
            if section.get("vocab_size") != tensor.shape[0]:
                plan.notes.append(f"the vocabulary has {tensor.shape[0]} rows now, before {section.get('vocab_size')}")
                section["vocab_size"] = tensor.shape[0]


def _copy_others(base: Path, adapter: Path, folder: Path) -> bool:
    """Everything that is not weights comes from the base, the tokenizer from the adapter if it has one (returned)."""
    own_tokenizer = any((adapter / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tekken.json"))
    for path in sorted(base.iterdir()):
        weights = path.suffix in WEIGHT_FILES or "index" in path.name or path.name.startswith(".")
        theirs = own_tokenizer and TOKENIZER.fullmatch(path.name)
        if path.is_file() and not weights and not theirs and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    for path in sorted(adapter.iterdir()) if own_tokenizer else ():
        if path.is_file() and TOKENIZER.fullmatch(path.name):
            shutil.copyfile(path, folder / path.name)
    return own_tokenizer
