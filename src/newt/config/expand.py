"""Dataset entries that stand for several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from newt.config.source import Source, join


def expand_names(found: Source, lists: Iterable[str]) -> None:
    """Replace each entry whose ``name`` is a list by one entry for each name, in place.

    Args:
        found: the file; the places of its keys move with the entries.
        lists: keys that hold dataset entries.
    """
    for key in lists:
        entries = (found.values or {}).get(key)
        if not isinstance(entries, list):
            continue
        for number in reversed(range(len(entries))):
            names = entries[number].get("name") if isinstance(entries[number], dict) else None
            if isinstance(names, list | tuple) and names:
                _expand(found, key, number, names)


def _expand(found: Source, key: str, number: int, names: Iterable[Any]) -> None:
    entries = (found.values or {})[key]
    copies = [{**entries[number], "name": name} for name in names]
    for later in reversed(range(number + 1, len(entries))):
        found.move(join(key, later), join(key, later + len(copies) - 1))
    entries[number : number + 1] = copies
    old = join(key, number)
    tables: tuple[dict[str, Any], ...] = (found.places, found.texts)
    for table in tables:
        own = {name.removeprefix(old): value for name, value in table.items() if (name + ".").startswith(old + ".")}
        own = {name: value for name, value in own.items() if not name.startswith(".name.")}
        for place in range(number, number + len(copies)):
            table.update({join(key, place) + name: value for name, value in own.items()})
