"""``type: completion``: plain text, all of it trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from newt.config.core import Dataset
from newt.config.section import Config
from newt.data.instructions import text_of
from newt.extend import Format, Segment, Text


class CompletionDataset(Dataset):
    """Keys of a dataset of plain texts."""

    field: str = "text"
    """Column that holds the text."""


class Completion(Format):
    """Plain text with an end token, cut into pieces of ``sequence_len``."""

    name = "completion"
    names = ("completion", "completion.load")
    Settings = CompletionDataset

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        super().__init__(entry, cfg)
        assert isinstance(entry, CompletionDataset)
        self.field = entry.field

    def columns(self) -> Sequence[str]:
        """The column of the text."""
        return (self.field,)

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """One trained segment."""
        return Text((Segment(text_of(row, self.field), True, "text"),), split=True)
