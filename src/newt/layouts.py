"""All formats, and which of them reads a dataset entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from newt.config.core import Dataset
from newt.extend import Format
from newt.formats.alpaca import Alpaca
from newt.formats.chat_template import ChatTemplate
from newt.formats.completion import Completion
from newt.formats.creative_acr import CreativeAcr
from newt.formats.custom import Custom
from newt.formats.input_output import InputOutput
from newt.formats.llama2_chat import Llama2Chat
from newt.formats.module import Module
from newt.formats.preference import Preference, PreferenceModule
from newt.formats.pretokenized import Pretokenized
from newt.formats.pretrain import Pretrain
from newt.formats.prompts import Prompts
from newt.formats.questions import Questions
from newt.formats.reflection import Reflection
from newt.formats.roleplay import Metharme, Pygmalion
from newt.formats.stepwise import Stepwise
from newt.formats.synthetic import Synthetic
from newt.formats.teacher import Teacher
from newt.formats.unpaired import Unpaired, UnpairedModule

FORMATS: tuple[type[Format], ...] = (
    ChatTemplate,
    Alpaca,
    Completion,
    InputOutput,
    Questions,
    Reflection,
    Metharme,
    Pygmalion,
    Llama2Chat,
    CreativeAcr,
    Custom,
    Pretokenized,
    Pretrain,
    Synthetic,
    Teacher,
    Module,
    Preference,
    PreferenceModule,
    Unpaired,
    UnpairedModule,
    Prompts,
    Stepwise,
)
"""Those that read any dotted path stand behind those that know it by name."""

_ANY_PATH = (Module, PreferenceModule, UnpairedModule, Prompts)
_NEVER_A_MODULE = frozenset(
    name.split(".")[0].split(":")[0] for fmt in FORMATS if fmt is not Teacher for name in (fmt.names or (fmt.name,))
)


def entry_types() -> dict[str, type[Dataset]]:
    """Value of ``type`` -> the keys of its entries; formats of supervised rows win where several read one value."""
    found: dict[str, type[Dataset]] = {}
    for fmt in FORMATS:
        for name in fmt.names or (fmt.name,):
            found.setdefault(name, fmt.Settings)
    return found


def formats_of_keys() -> dict[str, tuple[str, ...]]:
    """Entry key -> names of the formats that read it, without the keys of every entry."""
    keys = {key for fmt in FORMATS for key in fmt.Settings.model_fields} - set(Dataset.model_fields)
    named = [fmt for fmt in FORMATS if fmt not in _ANY_PATH]
    return {key: tuple(fmt.name for fmt in named if key in fmt.Settings.model_fields) for key in sorted(keys)}


def format_of(kind: Any, rows: str) -> type[Format] | None:
    """The format that reads entries of a ``type``.

    Args:
        kind: value of ``type``.
        rows: row kind that the method reads.
    """
    for fmt in FORMATS:
        if fmt.rows == rows and fmt.reads(kind):
            base = kind.split(".")[0].split(":")[0] if isinstance(kind, str) else ""
            return None if fmt in _ANY_PATH and base in {*_NEVER_A_MODULE, "sharegpt"} else fmt
    return None


def choose(entry: Mapping[str, Any], rows: str, methods: Mapping[str, Sequence[str]]) -> type[Dataset] | str:
    """The section that reads an entry, or what is wrong with its ``type``.

    Args:
        entry: its keys as they came.
        rows: row kind that the method reads.
        methods: row kind -> how the config asks for a method that reads it, such as ``rl: dpo``.
    """
    kind = entry.get("type")
    found = format_of(kind, rows)
    if found is not None and not (found in _ANY_PATH and _near(kind, rows)):
        return found.Settings
    if kind is None:
        return f"type is missing. Valid: {_valid(rows)}."
    if isinstance(kind, str) and kind.startswith("sharegpt"):
        return "sharegpt is now chat_template. Set type: chat_template and field_messages: conversations."
    other = next((fmt for fmt in FORMATS if fmt.rows != rows and fmt not in _ANY_PATH and fmt.reads(kind)), None)
    if other is not None and not isinstance(kind, dict):
        return f"{kind} belongs to {' or '.join(methods[other.rows])}. Valid here: {_valid(rows)}."
    near = _near(kind, rows)
    return f"unknown type {kind!r}." + (f" Did you mean {near}?" if near else "") + f" Valid: {_valid(rows)}."


def _names(rows: str) -> list[str]:
    return [name for fmt in FORMATS if fmt.rows == rows and fmt not in _ANY_PATH for name in fmt.names or (fmt.name,)]


def _near(kind: Any, rows: str) -> str | None:
    cutoff = 0.8 if "." in str(kind) else 0.6
    return next(iter(get_close_matches(str(kind), _names(rows), 1, cutoff)), None)


def _valid(rows: str) -> str:
    """Names of the families of layouts; those that are built where there are any."""
    if rows == Prompts.rows:
        return "the dotted path of a function"
    built = [fmt for fmt in FORMATS if fmt.rows == rows and not fmt.Settings.is_coming("type")]
    names = [name for fmt in built for name in fmt.names or (fmt.name,) if fmt.reads(name)] or _names(rows)
    families = dict.fromkeys(name.split(".")[0].split(":")[0] for name in names if not name.startswith("_"))
    return ", ".join(families)
