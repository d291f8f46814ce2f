"""Pairs of a better and a worse answer to one prompt."""

from __future__ import annotations

from typing import Any, ClassVar

from newt.config.core import Dataset
from newt.config.entries import ChatTemplateDataset
from newt.config.section import Section
from newt.extend import Format

_LAYOUTS = ("default", "argilla", "argilla_chat", "icr", "intel", "prompt_pairs", "ultra")


class PreferenceType(Section):
    """``type`` of an entry as a mapping: columns and texts of preference pairs."""

    field_system: str | None = None
    """Column of the system text. Default: system."""
    field_prompt: str | None = None
    """Column of the prompt. Default: prompt."""
    field_chosen: str | None = None
    """Column of the better answer. Default: chosen."""
    field_rejected: str | None = None
    """Column of the worse answer. Default: rejected."""
    prompt_format: str | None = None
    """How the prompt is written: ``{prompt}`` and ``{system}`` stand for the columns."""
    chosen_format: str | None = None
    """How the better answer is written: ``{chosen}`` stands for the column."""
    rejected_format: str | None = None
    """How the worse answer is written: ``{rejected}`` stands for the column."""


class PreferenceDataset(ChatTemplateDataset):
    """Keys of a dataset of preference pairs."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    type: str | PreferenceType | None = None  # type: ignore[assignment]  # a mapping has its own keys here
    """Layout of the rows. None: they have prompt, chosen and rejected."""
    field_chosen: str = "chosen"
    """Column of the better answer."""
    field_rejected: str = "rejected"
    """Column of the worse answer."""


class Preference(Format):
    """Prompt, chosen and rejected."""

    name = "preference"
    names = (
        *(f"{template}{layout}" for template in ("chatml", "llama3") for layout in ("", *(f".{x}" for x in _LAYOUTS))),
        "zephyr.nectar", "chat_template", "chat_template.default", "chat_template.argilla",
        "chat_template.argilla_chat", "passthrough", "bradley_terry.chat_template", "bradley_terry.llama3",
        "bradley_terry.llama3.icr", "orpo.chat_template", "user_defined", "user_defined.default",
    )  # fmt: skip
    Settings = PreferenceDataset
    rows = "preference"

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """A named layout, a mapping, or nothing: rows in their final form."""
        return kind is None or isinstance(kind, dict | PreferenceType) or kind in cls.names


class PreferenceModule(Format):
    """``type`` is the dotted path of a function that makes the rows."""

    name = "preference module"
    Settings = PreferenceDataset
    rows = "preference"

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """Any dotted path."""
        return isinstance(kind, str) and all(part.isidentifier() for part in kind.split(".")) and "." in kind
