"""Turns validation errors of pydantic into one short line for each value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from newt.config.secrets import is_secret

Path = tuple[str | int, ...]
"""A dotted key in parts: ("datasets", 0, "path")."""

_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_LIMITS = {
    "greater_than": ("gt", "greater than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "string_pattern_mismatch": ("pattern", "text like {}"),
    "string_too_short": ("min_length", "text with at least {} characters"),
    "string_too_long": ("max_length", "text with at most {} characters"),
    "too_short": ("min_length", "a list with at least {} items"),
    "too_long": ("max_length", "a list with at most {} items"),
}
_NUMBERS = ("int", "float", "greater", "less", "multiple", "finite")


def locate(location: Sequence[str | int], value: Any, *, missing: bool = False) -> Path:
    """Keep the parts of an error's location that are keys; pydantic mixes in names of union members."""
    parts = tuple(location[:-1]) if missing else tuple(location)
    path: list[str | int] = []
    for part in parts:
        if _holds(value, part):
            value = value[part]
            path.append(part)
    return (*path, location[-1]) if missing else tuple(path)


def _holds(value: Any, part: str | int) -> bool:
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)


def explain(errors: Iterable[Mapping[str, Any]], values: Mapping[str, Any]) -> dict[Path, str]:
    """Path of each bad value -> what is wrong with it, in the order of the errors.

    Args:
        errors: ``ValidationError.errors()``.
        values: what was validated.
    """
    grouped: dict[Path, list[Mapping[str, Any]]] = {}
    for error in errors:
        path = locate(error["loc"], values, missing=error["type"] == "missing")
        grouped.setdefault(path, []).append(error)
    # A union complains about the value itself for every member that does not fit; the deepest complaint is of
    # the member that the user meant.
    inner = {path[:n] for path in grouped for n in range(1, len(path))}
    return {path: _sentence(several, path) for path, several in grouped.items() if path not in inner}


def _sentence(errors: Sequence[Mapping[str, Any]], path: Path) -> str:
    own = [str(error["msg"]) for error in errors if error["type"] in ("value_error", "assertion_error")]
    if own:
        return re.sub(r"^(Value error|Assertion failed), ", "", own[0])
    if errors[0]["type"] == "missing":
        return "is missing."
    value = errors[0]["input"]
    wanted = list(dict.fromkeys(phrase for error in errors for phrase in _phrases(error, value)))
    if not wanted:
        message = str(errors[0]["msg"])
        return message[:1].lower() + message[1:] + "."
    near = nearest(value, wanted) if isinstance(value, str) else None
    got = "" if any(is_secret(str(key)) for key in path) else f", got {show(value)}"
    return f"must be {_either(wanted)}{got}." + (f" Did you mean {near}?" if near else "")


def _either(options: Sequence[str]) -> str:
    *first, last = options
    return f"{', '.join(first)} or {last}" if first else last


def _phrases(error: Mapping[str, Any], value: Any) -> list[str]:
    """What a value must be, as one kind of error says it."""
    kind = str(error["type"])
    if isinstance(value, bool) and kind.startswith(_NUMBERS):
        return ["a whole number" if kind.startswith("int") else "a number"]
    if kind == "literal_error":
        return _choices(error)
    if kind in _LIMITS:
        name, phrase = _LIMITS[kind]
        limit = error["ctx"][name]
        text = phrase.format(f"{limit:g}" if isinstance(limit, float) else limit)
        return [text.replace("1 items", "1 item") if text.endswith(" 1 items") else text]
    if kind.startswith("bool"):
        return ["true", "false"]
    return [_KINDS[kind]] if kind in _KINDS else []


def _choices(error: Mapping[str, Any]) -> list[str]:
    names = re.split(r", | or ", str(error["ctx"]["expected"]))
    return [name.lower() if name in ("True", "False") else name.strip("'") for name in names]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to a misspelt one, if any is close."""
    candidates = sorted(set(known))
    lower = {candidate.lower(): candidate for candidate in reversed(candidates)}
    key = name.lower().replace("-", "_")
    if key in lower:
        return lower[key]
    found = get_close_matches(key, lower, 1, 0.75)
    if not found and len(key) > 2:
        longer = [candidate for candidate in lower if candidate.startswith(key)]
        found = longer if len(longer) == 1 else []
    return lower[found[0]] if found else None


def show(value: Any) -> str:
    """A value as a message shows it: short, and in the words of YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | BaseModel):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    if isinstance(value, int | float):
        text = repr(value) if abs(value) < 1e300 else f"{float('inf') if value > 0 else float('-inf')}"
        return text if len(text) <= 40 else "a huge number"
    return f"a {type(value).__name__}"


def swapped(value: Any, result: Any, path: Path = ()) -> Iterable[tuple[Path, str]]:
    """Places where true or false was silently read as a number: pydantic takes true for 1."""
    if isinstance(value, bool):
        if isinstance(result, int | float) and not isinstance(result, bool):
            kind = "a whole number" if isinstance(result, int) else "a number"
            yield path, f"must be {kind}, got {show(value)}."
    elif isinstance(value, Mapping):
        for name, item in value.items():
            inner = getattr(result, str(name), None) if isinstance(result, BaseModel) else None
            inner = result.get(name) if isinstance(result, Mapping) else inner
            yield from swapped(item, inner, (*path, name))
    elif isinstance(value, list) and isinstance(result, list | tuple):
        for number, (item, inner) in enumerate(zip(value, result, strict=False)):
            yield from swapped(item, inner, (*path, number))
