"""Put a LoRA adapter into the weights of its base model, one tensor at a time, and prove that nothing was lost.

The arithmetic is float32 (see ``lora_math``); results are stored in the number type of the base weight.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from newt.config.core import Batch, Model
from newt.config.section import Config
from newt.models.adapter_files import RELORA, adapter_config, refuse_unknown_fields, same_config
from newt.models.adapter_updates import read_updates
from newt.models.checkpoint_files import INDEX, METHODS, CheckpointFiles, InFewBits
from newt.models.checkpoint_names import CheckpointNames
from newt.models.embeddings import raise_stored_positions
from newt.models.facts import require_model
from newt.models.load import read_config
from newt.models.lora_math import Update, merged_weight
from newt.models.portable import begins_at_random
from newt.models.quantize import Held, dtype_of_run, read_record
from newt.models.special_ids import follow_tokenizer
from newt.models.stored import READ_BY
from newt.models.verify import Base, Verified, embedding_name, merge_in_memory, verify_merge
from newt.support.errors import NewtError
from newt.support.files import atomic_dir

TOKENIZER = re.compile(
    r"tokenizer.*|special_tokens_map\.json|added_tokens\.json|vocab\..*|merges\.txt|chat_template.*|tekken\.json|spiece\.model"
)
WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")


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
    """A merge by file.

    Attributes:
        updates: what the adapter does, by the name that a weight has in the files; parameters that are stored in parts
            have their own name.
        settings: the adapter's.
        names: which tensors of the files make up which parameter.
        files: the base's tensors.
        held: how the base was held in 4 bits.
        quantized: weights that were held so -> they are stored as (in, out).
        part_of: name in the files -> the parameter that it is a part of.
        ready: parts that were merged with others of an earlier place, and wait for theirs.
        done: weights that were merged.
        notes: what the user should know.
    """

    updates: dict[str, Update]
    settings: Mapping[str, Any]
    names: CheckpointNames
    files: CheckpointFiles
    held: Held | None = None
    quantized: dict[str, bool] = field(default_factory=dict)
    part_of: dict[str, str] = field(default_factory=dict)
    ready: dict[str, Tensor] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def embedding(self) -> str | None:
        """The files' name of the input embedding."""
        usual = next((name for name in sorted(self.files.names) if name.endswith("embed_tokens.weight")), None)
        return usual or next(iter(self.names.tensors_of(f"{embedding_name(self.names.model)}.weight")), None)


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
    refuse_unknown_fields(settings, adapter_dir)
    _refuse_random_beginning(settings)
    restarted = (adapter_dir / RELORA).is_dir()
    source = adapter_dir / RELORA if restarted else _base_folder(cfg)
    stored = _stored_in_few_bits(source, cfg)
    config = read_config(cfg, str(source) if restarted else None)
    same_config(config, adapter_dir)
    held = read_record(adapter_dir, cfg)
    base = Base(source, config, held, stored)
    if output_dir.is_dir() and any(output_dir.iterdir()) and not (output_dir / "config.json").is_file():
        raise NewtError(f"{output_dir} holds something that is not a model: name another folder")
    with atomic_dir(output_dir) as folder:
        _write_config(base, folder, cfg)
        if method == "legacy":
            report = MergeReport(output_dir, *merge_in_memory(base, adapter_dir, folder))
        else:
            report = _merge_files(base, adapter_dir, folder)
        if held is not None:
            report = replace(report, notes=(*report.notes, _NOTE_HELD))
        if stored is not None:
            report = replace(report, notes=(*report.notes, _in_full(stored)))
        if _copy_others(source, adapter_dir, folder):
            report = replace(report, notes=(*report.notes, *follow_tokenizer(folder)))
        longest = max(cfg[Batch].sequence_len, cfg[Batch].eval_length)
        report = replace(report, notes=(*report.notes, *raise_stored_positions(folder, config, longest)))
        if verify:
            report = _checked(report, verify_merge(base, adapter_dir, folder), method)
        report = replace(report, output_dir=output_dir)
    return report


def _write_config(base: Base, folder: Path, cfg: Config) -> None:
    """The base's config as it is stored, or the other one that the adapter was trained with.

    That of a base in few bits says nothing of them any more, and names the number type that its weights get.
    """
    path = folder / "config.json"
    if cfg[Model].overrides_of_model_config or cfg[Model].base_model_config:
        path.write_text(base.config.to_json_string(), encoding="utf-8")
    else:
        shutil.copyfile(base.folder / "config.json", path)
    if base.stored is None:
        return
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["quantization_config"]
    values.setdefault("dtype", None)
    for section in (values, values.get("text_config") or {}):
        section.update({key: _plain(base.stored) for key in ("dtype", "torch_dtype") if key in section})
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


_NOTE_HELD = "weights that were held in 4 bits in training are merged as they were then: quantized and given back"


def _in_full(stored: InFewBits) -> str:
    return f"the base's weights, which are stored as {stored.method}, are given back in full: {_plain(stored)}"


def _plain(stored: InFewBits) -> str:
    return str(stored.dtype).removeprefix("torch.")


def _stored_in_few_bits(base: Path, cfg: Config) -> InFewBits | None:
    """How the weights are stored, if in few bits: they cannot take an update, unless they are given back in full.

    Raises:
        NewtError: the config does not ask for that, or it cannot be done.
    """
    values = json.loads((base / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    if values is None:
        return None
    method = str(values.get("quant_method", "unknown method"))
    key = f"model_quantization_config: {READ_BY[method]}" if method in METHODS else ""
    if key and cfg.value("model_quantization_config") == READ_BY[method]:
        return InFewBits(values, dtype_of_run(cfg))
    hint = f". If there is none, set {key} with dequantize: true" if key else ""
    raise NewtError(
        f"base_model: the weights in {base} are quantized ({method}): name "
        f"the checkpoint that they were made from, and the adapter is merged into that{hint}"
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


def _refuse_random_beginning(settings: Mapping[str, Any]) -> None:
    if begins_at_random(settings.get("init_lora_weights")):
        raise NewtError(
            f"The adapter began with {settings['init_lora_weights']}, which takes a random part out of the base: what "
            "it fits cannot be found again. The adapter that a finished run writes has no such beginning: merge that"
        )


# --------------------------------------------------------------------------- the files


def _merge_files(base: Base, adapter: Path, folder: Path) -> MergeReport:
    files = base.files()
    if not files.shards:
        raise NewtError(f"{base.folder} has no model.safetensors: use merge_method: legacy")
    names = CheckpointNames(base.config, files.names)
    settings = adapter_config(adapter)
    plan = _Plan(read_updates(adapter, settings, names), settings, names, files, base.held)
    plan.updates = {_find(name, plan, base.folder): update for name, update in plan.updates.items()}
    plan.quantized = {_find(name, plan, base.folder): transposed for name, transposed in _held_weights(plan).items()}
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    extra = _untie(plan, stored)
    index: dict[str, str] = {}
    size = 0
    for number, shard in enumerate(files.shards):
        tensors = dict(_merged_shard(files.shards[shard], plan))
        if number == len(files.shards) - 1:
            tensors.update(_extra_heads(extra, plan))
        if not tensors:  # all of them were scales
            continue
        save_file(tensors, folder / shard, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, shard))
        size += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        _note_rows(tensors, plan, stored)
    left = sorted(set(plan.updates) - plan.done)
    if left:
        raise NewtError(
            f"{len(left)} weights of the adapter belong to nothing in the base model: {', '.join(left[:5])}"
        )
    (folder / "config.json").write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
    if len(files.shards) > 1:
        content = {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}
        (folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return MergeReport(folder, len(plan.done), len(plan.updates), notes=tuple(plan.notes))


def _find(name: str, plan: _Plan, base: Path) -> str:
    """The files' name of a weight, or its own name if the files hold it in parts.

    Composite models are stored with other prefixes than they have in memory.
    """
    names = plan.files.names
    if name in names or name == "lm_head.weight":
        return name
    bare = re.sub(r"^(model\.)?(language_model\.)?(model\.)?", "", name)
    prefixes = ("", "model.", "model.language_model.", "language_model.model.", "model.language_model.model.")
    found = [prefix + bare for prefix in prefixes if prefix + bare in names] or plan.names.tensors_of(name)
    if not found:
        raise NewtError(f"The adapter's {name} belongs to nothing in {base}: was it trained on another base model?")
    if len(found) == 1:
        return found[0]
    plan.part_of.update(dict.fromkeys(found, name))
    return name


def _held_weights(plan: _Plan) -> dict[str, bool]:
    """Weights that were held in 4 bits -> they are stored as (in, out)."""
    return {} if plan.held is None else plan.held.weights(plan.names.model)


def _untie(plan: _Plan, config: dict[str, Any]) -> dict[str, str]:
    """Weights to write although the checkpoint has none: an output layer that shares the embedding's weight.

    It stays shared if the adapter treats both alike; otherwise it gets a weight of its own.

    Returns:
        name of the new weight -> name of the weight that it begins with.
    """
    head, embedding = "lm_head.weight", plan.embedding
    if head in plan.files.names or embedding is None:
        return {}
    ours, theirs = plan.updates.get(head), plan.updates.get(embedding)
    if ours is None and theirs is None:
        return {}
    if ours is not None and theirs is not None and _same(ours, theirs):
        plan.done.add(head)
        return {}
    only_saved = ours is None and theirs is not None and theirs.a is None and theirs.embedding_a is None
    if only_saved and theirs is not None and (theirs.rows is not None or plan.settings.get("ensure_weight_tying")):
        return {}  # peft trains single rows of both ends as one
    for section in (config, config.get("text_config") or {}):
        if "tie_word_embeddings" in section or section is config:
            section["tie_word_embeddings"] = False
    plan.notes.append("the output layer and the embedding are no longer one weight: the adapter changed them apart")
    return {head: embedding}


def _same(one: Update, other: Update) -> bool:
    factors = (one.a, other.a, one.embedding_a, other.embedding_a, one.rows, other.rows)
    if one.whole is None or other.whole is None or any(factor is not None for factor in factors):
        return False
    return torch.equal(one.whole, other.whole)


def _merged_shard(names: Iterable[str], plan: _Plan) -> Iterator[tuple[str, Tensor]]:
    for name in names:
        if name in plan.part_of and name not in plan.ready:
            plan.ready.update(_merged_parts(plan.part_of[name], plan))
        if name in plan.ready:
            yield name, plan.ready.pop(name)
        else:
            yield name, _merged(name, plan.files.tensor(name), plan)


def _merged_parts(parameter: str, plan: _Plan) -> dict[str, Tensor]:
    """The parts of one parameter, merged as one. Other files may hold some of them: those wait in ``plan.ready``."""
    parts = {name: plan.files.tensor(name) for name in plan.names.tensors_of(parameter)}
    merged = _merged(parameter, plan.names.join(parameter, parts), plan)
    return {name: part.contiguous() for name, part in plan.names.split(parameter, merged).items()}


def _merged(name: str, tensor: Tensor, plan: _Plan) -> Tensor:
    """A weight with the adapter's update, in its own number type."""
    stored = tensor.dtype
    if plan.held is not None and name in plan.quantized:
        tensor = plan.held.through(tensor, transposed=plan.quantized[name])
    update = plan.updates.get(name)
    if update is not None:
        tensor = merged_weight(tensor, update, name, plan.settings)
        plan.done.add(name)
    return tensor.to(stored).contiguous()


def _extra_heads(extra: Mapping[str, str], plan: _Plan) -> Iterator[tuple[str, Tensor]]:
    for name, origin in extra.items():
        yield name, _merged(name, plan.files.tensor(origin), plan).clone()


def _note_rows(tensors: Mapping[str, Tensor], plan: _Plan, config: dict[str, Any]) -> None:
    """The vocabulary size follows the embedding."""
    for name, tensor in tensors.items():
        if name in plan.done and name == plan.embedding:
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
