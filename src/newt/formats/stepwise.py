"""``type: stepwise_supervised``: answers in steps, each of them right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import PositiveInt

from newt.config.core import Dataset
from newt.extend import Format


class StepwiseDataset(Dataset):
    """Keys of a dataset of judged steps."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    step_separator: str = "\n"
    """Text after each step; its last token carries the label."""
    max_completion_length: PositiveInt | None = None
    """Longest answer in tokens; the rest is cut."""
    train_on_last_step_only: bool = False
    """Only the last step carries a label."""


class Stepwise(Format):
    """``prompt``, ``completions`` and ``labels``."""

    name = "stepwise_supervised"
    Settings = StepwiseDataset
    rows = "steps"

    def columns(self) -> Sequence[str]:
        """All three."""
        return ("prompt", "completions", "labels")
