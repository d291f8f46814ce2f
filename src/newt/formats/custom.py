"""Layouts that the user describes: columns and a prompt in the config, or a Python module."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from newt.config.core import Dataset
from newt.config.entries import ChatTemplateDataset
from newt.config.section import Section
from newt.extend import Format


class InstructionType(Section):
    """``type`` of an entry as a mapping: columns and prompt of single instructions."""

    system_prompt: str | None = None
    """System text of rows that have none."""
    system_format: str = "{system}"
    """How the system text is written."""
    field_system: str = "system"
    """Column of the system text."""
    field_instruction: str = "instruction"
    """Column of the instruction."""
    field_input: str = "input"
    """Column of the input."""
    field_output: str = "output"
    """Column of the response."""
    format: str | None = None
    """Prompt, such as ``"[INST] {instruction} {input} [/INST]"``. Default: ``"{instruction} {input} "``."""
    no_input_format: str | None = None
    """Prompt of rows without input. Default: ``"{instruction} "``."""
    field: str | None = None
    """Column of the text, of older configs."""


class CustomDataset(Dataset):
    """Keys of a dataset whose layout the config describes."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    type: InstructionType | None = None  # type: ignore[assignment]  # narrower than any format's
    """Columns and prompt."""


class Custom(Format):
    """``type`` is a mapping."""

    name = "custom"
    Settings = CustomDataset

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """Any mapping."""
        return isinstance(kind, dict | InstructionType)


class ModuleDataset(ChatTemplateDataset):
    """Keys of a dataset that a Python module reads: those that such modules are known to use."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    field: str | None = None
    """Column that holds the text."""
    conversation: str | None = None
    """Style of the conversation, of older configs."""
    logprobs_field: str | None = None
    """Column that holds a teacher's log-probabilities."""
    temperature: float | None = None
    """Temperature of the teacher that wrote them."""


class Module(Format):
    """``type`` is the dotted path of a Python module or function."""

    name = "module"
    Settings = ModuleDataset

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """Any dotted path."""
        return isinstance(kind, str) and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", kind) is not None
