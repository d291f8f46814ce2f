"""Prompts whose answers are sampled in training, with columns for the reward functions."""

from __future__ import annotations

from typing import Any, ClassVar

from newt.config.core import Dataset
from newt.config.entries import ChatTemplateDataset
from newt.extend import Format


class PromptDataset(ChatTemplateDataset):
    """Keys of a dataset of prompts."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}


class Prompts(Format):
    """``type`` is the dotted path of a function that makes the rows, such as ``rewards.to_prompt``."""

    name = "prompts"
    Settings = PromptDataset
    rows = "prompts"

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """Any dotted path, or nothing: the rows have a column ``prompt``."""
        if kind is None:
            return True
        return isinstance(kind, str) and all(part.isidentifier() for part in kind.split(".")) and "." in kind
