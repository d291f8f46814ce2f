"""Special ids in the config files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from newt.models.embeddings import stop_ids
from newt.support.files import write_atomically

NAMES = ("bos_token", "eos_token", "pad_token")


def follow_tokenizer(folder: Path) -> tuple[str, ...]:
    """Let config.json and generation_config.json name the special ids of the folder's own tokenizer.

    The rules are those of ``embeddings.align_special_ids``, which a model in memory follows: what stopped generation
    before still does. A tokenizer without tokenizer.json is left alone.

    Returns:
        What changed in config.json, a line for each id.
    """
    ids = _ids(folder)
    notes: list[str] = []
    config = _read(folder / "config.json")
    for section in (config, config.get("text_config")):
        if isinstance(section, dict):
            notes += _put(section, ids, always=section is config and "text_config" not in config)
    if notes:
        _write(folder / "config.json", config)
    generation = _read(folder / "generation_config.json")
    if generation:
        wanted: dict[str, Any] = {f"{name}_id": number for name, number in ids.items()}
        if "eos_token" in ids:
            wanted["eos_token_id"] = stop_ids(ids["eos_token"], generation.get("eos_token_id"))
        if any(generation.get(key) != value for key, value in wanted.items()):
            _write(folder / "generation_config.json", {**generation, **wanted})
    return tuple(dict.fromkeys(notes))


def _ids(folder: Path) -> dict[str, int]:
    """Name of a special token -> its id."""
    if not (folder / "tokenizer.json").is_file():
        return {}
    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    named = _read(folder / "tokenizer_config.json")
    texts = {name: named.get(name) for name in NAMES}
    texts = {name: text.get("content") if isinstance(text, dict) else text for name, text in texts.items()}
    found = {name: backend.token_to_id(text) for name, text in texts.items() if isinstance(text, str)}
    return {name: number for name, number in found.items() if number is not None}


def _put(section: dict[str, Any], ids: dict[str, int], *, always: bool) -> list[str]:
    """Write ids into a section of a config that has them, or always."""
    notes = []
    for name, number in ids.items():
        key = f"{name}_id"
        old = section.get(key)
        if old == number or (isinstance(old, list) and number in old) or not (always or key in section):
            continue
        section[key] = number
        notes.append(f"the model's {key} {old} is now {number}, as the tokenizer has it")
    return notes


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2) + "\n")
