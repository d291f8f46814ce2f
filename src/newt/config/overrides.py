"""Overrides: keys that the command line (or a caller) puts over those of the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from newt.config.section import Problem, Where, flag_of
from newt.config.source import Source, join, read_value

_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*$")
_FLOAT = re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
_WORDS = {"true": True, "yes": True, "false": False, "no": False, "null": None, "none": None, "~": None, "": None}


@dataclass(frozen=True)
class Override:
    """One key from outside the file.

    Attributes:
        parts: the key: ("datasets", "0", "path").
        value: as it came; text is read later, as the key's type asks.
        flag: how to name it in a message: ``--lora-r``.
    """

    parts: tuple[str, ...]
    value: Any
    flag: str

    @property
    def where(self) -> Where:
        """Its place, as problems show it."""
        return Where(self.flag)


def parse(overrides: Mapping[str, Any] | Sequence[str]) -> Iterator[Override]:
    """Normalize ``{"lora-r": 8}``, ``["datasets.0.path=x"]`` or ``{"trl__beta": "0.1"}``; a bare name means true."""
    for name, value in overrides.items() if isinstance(overrides, Mapping) else map(_split, overrides):
        key = str(name).lstrip("-").replace("-", "_").replace("__", ".")
        parts = tuple(part for part in key.split(".") if part)
        if parts:
            yield Override(parts, value, flag_of(".".join(parts)))


def _split(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    return name, value if equals else True


def infer(text: str) -> Any:
    """Read a command-line value when no type is known: true, yes, null, numbers, ``[a, b]``, ``{a: 1}``, else text."""
    stripped = text.strip()
    if stripped.lower() in _WORDS:
        return _WORDS[stripped.lower()]
    if len(stripped) < 300 and _INT.match(stripped):
        return int(stripped)
    if len(stripped) < 300 and _FLOAT.match(stripped):
        return float(stripped.replace("_", ""))
    if stripped[:1] in ("[", "{"):
        found = read_value(stripped)
        return found if isinstance(found, list | dict) else text
    return text


def apply(overrides: Iterable[Override], source: Source, lists: Iterable[str]) -> set[str]:
    """Write overrides into a source's values.

    Args:
        overrides: in order; the last of several for one key wins.
        source: changed in place; problems are added to it.
        lists: keys whose value is a list, made if absent (``--datasets.0.path``).

    Returns:
        The dotted keys that were set.
    """
    done: set[str] = set()
    for override in overrides:
        key = join(*override.parts)
        if _set(override, source, frozenset(lists)):
            source.forget(key)
            source.places[key] = override.where
            if isinstance(override.value, str):
                source.texts[key] = override.value
            done.add(key)
    return done


def _set(override: Override, source: Source, lists: frozenset[str]) -> bool:
    assert source.values is not None
    *parents, last = override.parts
    at: Any = source.values
    trail = ""
    for part, following in zip(parents, override.parts[1:], strict=True):
        trail = join(trail, part)
        make: type[dict[Any, Any]] | type[list[Any]] = list if part in lists and _is_number(following) else dict
        inner = _child(at, part)
        if inner is not None and not isinstance(inner, dict | list):
            message = "was not a mapping and is replaced."
            source.problems.append(Problem((trail,), message, where=override.where, kind="warning"))
            inner = None
        if inner is None:
            inner = make()
            if not _put(at, part, inner):
                return _no_entry(override, source, trail)
            source.forget(trail)
            source.places[trail] = override.where
        at = inner
    value = override.value
    if isinstance(value, str):
        value = _like(_child(at, last), value) if parents else infer(value)
    return _put(at, last, value) or _no_entry(override, source, join(*override.parts))


def _like(present: Any, text: str) -> Any:
    """Read text as the value that it replaces: text stays text, and a number with a fraction stays one."""
    if isinstance(present, str):
        return text
    value = infer(text)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if isinstance(present, float) and whole else value


def _child(at: Any, part: str) -> Any:
    if isinstance(at, list):
        return at[int(part)] if _is_number(part) and int(part) < len(at) else None
    return at.get(_name(at, part))


def _put(at: Any, part: str, value: Any) -> bool:
    if isinstance(at, dict):
        at[_name(at, part)] = value
        return True
    if not _is_number(part) or int(part) > len(at):
        return False
    at[int(part) : int(part) + 1] = [value]
    return True


def _name(at: dict[Any, Any], part: str) -> Any:
    """A key of digits may stand in the file as a number."""
    return int(part) if _is_number(part) and part not in at and int(part) in at else part


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) < 10


def _no_entry(override: Override, source: Source, key: str) -> bool:
    source.problems.append(Problem((key,), "there is no such entry in the list.", where=override.where))
    return False
