"""The documentation and the JSON schema of the config, made from the sections."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from newt.config.core import Dataset
from newt.config.load import ENTRY_LISTS, nested_sections
from newt.config.rename import NESTED_RENAMED, RENAMED
from newt.config.section import Section

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{model}"


@cache
def field_docs(section: type[Section]) -> Mapping[str, str]:
    """Field name -> the docstring below it, on one line; inherited fields are included.

    Read from the source when somebody asks: pydantic can do this while it builds the class, but every command would
    wait for it.
    """
    docs: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if issubclass(base, Section) and base is not Section:
            docs.update(_own_docs(base))
    return {name: docs[name] for name in section.model_fields if name in docs}


def _own_docs(section: type[Section]) -> Mapping[str, str]:
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    except (OSError, TypeError):
        return {}
    if not isinstance(body, ast.ClassDef):
        return {}
    docs: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                docs[field.target.id] = " ".join(text.split())
    return docs


def json_schema(sections: Sequence[type[Section]], entry_types: Mapping[str, type[Dataset]]) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a config file.

    Args:
        sections: all sections of top-level keys.
        entry_types: format name -> the section that reads its dataset entries.
    """
    from pydantic.json_schema import models_json_schema

    top = tuple(dict.fromkeys(sections))
    entries = tuple(dict.fromkeys(entry_types.values()))
    every = tuple(dict.fromkeys((*top, *entries, *_below((*top, *entries)))))
    refs, made = models_json_schema([(section, "validation") for section in every], ref_template=_REF)
    defs = made.get("$defs", {})
    names = {section: refs[section, "validation"]["$ref"].rpartition("/")[2] for section in every}
    for section, name in names.items():
        _describe(defs[name], section)
    for section in entries:
        of_type = [name for name, used in entry_types.items() if used is section]
        defs[names[section]]["properties"]["type"]["examples"] = of_type
    properties = {key: value for section in top for key, value in defs[names[section]]["properties"].items()}
    for key in ENTRY_LISTS:
        if key in properties and entries:
            _list_entries(properties[key], [_REF.format(model=names[section]) for section in entries])
    for old, rule in RENAMED.items():
        if rule.new in properties and old not in properties:
            same = {**properties[rule.new], "description": f"Another spelling of {rule.new}."}
            properties[old] = {**same, "deprecated": True} if rule.deprecated else same
    for key in NESTED_RENAMED:
        owner = next((section for section in top if key in section.model_fields), None)
        for inner in nested_sections(owner.model_fields[key].annotation) if owner else ():
            _older_spellings(key, defs[names[inner]])
    required = [key for section in top for key in defs[names[section]].get("required", ())]
    for section in top:
        del defs[names[section]]
    schema = {
        "$schema": DRAFT,
        "title": "Newt config",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        "$defs": defs,
    }
    schema["$defs"] = used_definitions(schema, defs)
    return schema


def used_definitions(part: Any, defs: Mapping[str, Any]) -> dict[str, Any]:
    """The definitions that a part of a schema refers to, directly or through others."""
    return {name: defs[name] for name in sorted(_used(part, defs))}


def _below(sections: Iterable[type[Section]]) -> Iterable[type[Section]]:
    for section in sections:
        for field in section.model_fields.values():
            inner = nested_sections(field.annotation)
            yield from inner
            yield from _below(inner)


def _describe(schema: dict[str, Any], section: type[Section]) -> None:
    docs = field_docs(section)
    for key, field in schema.get("properties", {}).items():
        field.pop("title", None)
        if key in docs:
            field["description"] = docs[key]
        if not section.model_fields[key].is_required():
            field.setdefault("default", None)
            _allow_null(field)
    schema.pop("description", None)
    if section.__doc__:
        schema["description"] = inspect.cleandoc(section.__doc__)


def _allow_null(field: dict[str, Any]) -> None:
    """``key:`` without a value is the same as no key."""
    if "anyOf" in field:
        field["anyOf"] += [] if {"type": "null"} in field["anyOf"] else [{"type": "null"}]
    elif "$ref" in field:
        field["anyOf"] = [{"$ref": field.pop("$ref")}, {"type": "null"}]
    elif isinstance(field.get("type"), str):
        field["type"] = [field["type"], "null"]
        if "enum" in field:
            field["enum"] = [*field["enum"], None]


def _older_spellings(block: str, definition: dict[str, Any]) -> None:
    """Also accept the older names of the keys in a block."""
    known = definition["properties"]
    for old, rule in NESTED_RENAMED.get(block, {}).items():
        if rule.new in known and old not in known:
            known[old] = {**known[rule.new], "description": f"Another spelling of {rule.new}.", "deprecated": True}


def _list_entries(field: dict[str, Any], refs: Sequence[str]) -> None:
    """An entry has the keys of one of the formats."""
    for option in field.get("anyOf", [field]):
        if "array" in option.get("type", ()):
            option["items"] = {"anyOf": [{"$ref": ref} for ref in refs]}


def _used(part: Any, defs: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> set[str]:
    found: set[str] = set()
    if isinstance(part, Mapping):
        name = str(part.get("$ref", "")).rpartition("/")[2]
        if name and name not in seen:
            found |= {name} | _used(defs[name], defs, seen | {name})
        for key, inner in part.items():
            if key != "$defs":
                found |= _used(inner, defs, seen | found)
    elif isinstance(part, list):
        for inner in part:
            found |= _used(inner, defs, seen | found)
    return found
