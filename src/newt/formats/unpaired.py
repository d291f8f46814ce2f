"""Answers that are good or bad by themselves, for KTO."""

from __future__ import annotations

from typing import Any, ClassVar

from newt.config.core import Dataset
from newt.config.entries import ChatTemplateDataset
from newt.config.section import Section
from newt.extend import Format

_LAYOUTS = ("argilla", "argilla_chat", "intel", "prompt_pairs", "ultra")


class UnpairedType(Section):
    """``type`` of an entry as a mapping: columns and texts of rated answers."""

    field_system: str | None = None
    """Column of the system text. Default: system."""
    field_prompt: str | None = None
    """Column of the prompt. Default: prompt."""
    field_completion: str | None = None
    """Column of the answer. Default: completion."""
    field_label: str | None = None
    """Column that says whether the answer is good. Default: label."""
    prompt_format: str | None = None
    """How the prompt is written: ``{prompt}`` and ``{system}`` stand for the columns."""
    completion_format: str | None = None
    """How the answer is written: ``{completion}`` stands for the column."""


class UnpairedDataset(ChatTemplateDataset):
    """Keys of a dataset of rated answers."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    type: str | UnpairedType | None = None  # type: ignore[assignment]  # a mapping has its own keys here
    """Layout of the rows. None: they have prompt, completion and label."""


class Unpaired(Format):
    """Prompt, completion and label."""

    name = "unpaired"
    names = (
        *(f"{template}{layout}" for template in ("chatml", "llama3") for layout in ("", *(f".{x}" for x in _LAYOUTS))),
        "user_defined", "user_defined.default",
    )  # fmt: skip
    Settings = UnpairedDataset
    rows = "unpaired"

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """A named layout, a mapping, or nothing: rows in their final form."""
        return kind is None or isinstance(kind, dict | UnpairedType) or kind in cls.names


class UnpairedModule(Format):
    """``type`` is the dotted path of a function that makes the rows."""

    name = "unpaired module"
    Settings = UnpairedDataset
    rows = "unpaired"

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """Any dotted path."""
        return isinstance(kind, str) and all(part.isidentifier() for part in kind.split(".")) and "." in kind
