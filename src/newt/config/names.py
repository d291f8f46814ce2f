"""Finds the key that a user meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from newt.config.core import Dataset
from newt.config.messages import nearest
from newt.config.pending import NESTED, PENDING, PENDING_ENTRY
from newt.config.rename import MISTAKEN, RENAMED
from newt.config.section import Section

Level = Literal["top", "entry", "block"]

TOP = "at the top level"
ENTRY = "in an entry of datasets"


class Names:
    """All known keys, and where each of them belongs."""

    def __init__(
        self,
        owned: Mapping[str, type[Section]],
        others: Mapping[str, tuple[str, ...]],
        nested_sections: Callable[[Any], list[type[Section]]],
    ) -> None:
        self.top = {*owned, *PENDING, *RENAMED}
        self.entry = {*Dataset.model_fields, *others, *PENDING_ENTRY}
        self.blocks = {block: set(names) for block, names in NESTED.items()}
        for key, section in owned.items():
            for inner in nested_sections(section.model_fields[key].annotation):
                if not issubclass(inner, Dataset):
                    self.blocks.setdefault(key, set()).update(inner.model_fields)

    def hint(self, name: str, level: Level, here: Iterable[str] = ()) -> str:
        """What to write instead of an unknown key, or "".

        Args:
            name: the unknown key.
            level: where it stands.
            here: the keys that are valid there (for an entry or a block).
        """
        valid = {"top": self.top, "entry": {*here, *self.entry}, "block": set(here)}[level]
        meant = MISTAKEN.get(name)
        if meant in valid:
            return f"Did you mean {meant}?"
        for place, names in self._elsewhere(level):
            if name in names:
                return f"It belongs {place}."
            if meant in names:
                return f"Did you mean {meant}, {place}?"
        near = nearest(name, valid)
        if near:
            return f"Did you mean {near}?"
        for place, names in self._elsewhere(level):
            near = nearest(name, names)
            if near:
                return f"Did you mean {near}, {place}?"
        return ""

    def _elsewhere(self, level: Level) -> Iterable[tuple[str, set[str]]]:
        if level != "top":
            yield TOP, self.top
        if level != "entry":
            yield ENTRY, self.entry
        if level == "top":
            for block, names in self.blocks.items():
                yield f"under {block}", names
