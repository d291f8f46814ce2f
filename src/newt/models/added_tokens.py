"""Give reserved tokens of a tokenizer another text: the ids, and with them the embeddings, stay as they are."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from newt.support.errors import NewtError


def rename_tokens(tokenizer: Any, texts: Mapping[int, str], notes: list[str]) -> Any:
    """A tokenizer like this one in which some added tokens have another text, everywhere that it names them.

    Args:
        tokenizer: a fast tokenizer.
        texts: token id -> new text.
        notes: gets a line if the chat template used an old text.

    Raises:
        NewtError: an id that is no added token, or a text that another token has.
    """
    from newt.models.quiet import quiet

    renamed = _renamed(tokenizer, texts)
    with tempfile.TemporaryDirectory() as name, quiet():
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        if not (folder / "tokenizer.json").is_file():
            raise NewtError("added_tokens_overrides: this tokenizer has no tokenizer.json, so it cannot be changed")
        _edit(folder / "tokenizer.json", lambda content: _rename_backend(content, texts, renamed))
        # Named tokens (``eos_token``) and lists of them.
        _edit(folder / "tokenizer_config.json", lambda content: _replace(content, renamed))
        changed = type(tokenizer).from_pretrained(folder)
    changed.name_or_path = tokenizer.name_or_path
    changed.chat_template = _rename_template(tokenizer.chat_template, renamed, notes)
    for number, text in texts.items():
        if changed.convert_ids_to_tokens(number) != text or changed.convert_tokens_to_ids(text) != number:
            raise NewtError(f"added_tokens_overrides: the tokenizer did not take {text!r} as token {number}")
    return changed


def _renamed(tokenizer: Any, texts: Mapping[int, str]) -> dict[str, str]:
    """Old text -> new text."""
    added = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    for number in texts:
        if number not in added:
            known = f"they are {min(added)} to {max(added)}" if added else "it has none"
            raise NewtError(f"added_tokens_overrides: token {number} was not found among the added tokens: {known}")
    renamed = {added[number]: text for number, text in texts.items()}
    vocabulary = tokenizer.get_vocab()
    for old, text in renamed.items():
        if text in vocabulary and text not in renamed and text != old:
            raise NewtError(f"added_tokens_overrides: {text!r} is the text of token {vocabulary[text]} already")
    return renamed


def _edit(path: Path, change: Any) -> None:
    content = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _rename_backend(content: dict[str, Any], texts: Mapping[int, str], renamed: Mapping[str, str]) -> dict[str, Any]:
    for token in content["added_tokens"]:
        token["content"] = texts.get(token["id"], token["content"])
    vocabulary = content["model"].get("vocab")
    if isinstance(vocabulary, dict):  # most tokenizers have their added tokens in the vocabulary as well
        numbers = {vocabulary[old]: new for old, new in renamed.items() if old in vocabulary}
        content["model"]["vocab"] = {numbers.get(number, text): number for text, number in vocabulary.items()}
    elif isinstance(vocabulary, list):  # pieces with their scores
        for number, text in texts.items():
            if number < len(vocabulary):
                vocabulary[number][0] = text
    content["post_processor"] = _replace(content.get("post_processor"), renamed)
    return content


def _replace(value: Any, renamed: Mapping[str, str]) -> Any:
    """The value with whole texts replaced, also in what it holds."""
    if isinstance(value, str):
        return renamed.get(value, value)
    if isinstance(value, list):
        return [_replace(item, renamed) for item in value]
    if isinstance(value, dict):
        return {renamed.get(key, key): _replace(item, renamed) for key, item in value.items()}
    return value


def _rename_template(template: Any, renamed: Mapping[str, str], notes: list[str]) -> Any:
    if isinstance(template, dict):
        return {name: _rename_template(text, renamed, notes) for name, text in template.items()}
    used = [old for old in renamed if template and old in template]
    if not used:
        return template
    notes.append(f"the chat template used {', '.join(used)}: it has the new text now (added_tokens_overrides)")
    return re.sub("|".join(map(re.escape, used)), lambda found: renamed[found.group()], template)
