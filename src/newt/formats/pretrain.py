"""``type: pretrain``: long texts, streamed and cut into windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import NonNegativeInt

from newt.config.core import Dataset
from newt.config.section import Config
from newt.extend import Format, Segment, Text
from newt.support.errors import DataError


class PretrainDataset(Dataset):
    """Keys of an entry of ``pretraining_dataset``."""

    type: str | None = "pretrain"
    """Layout of the rows."""
    split: str | None = "train"
    """Split to read."""
    text_column: str = "text"
    """Column that holds the text."""
    skip: NonNegativeInt | None = None
    """Rows to leave out at the beginning."""


class Pretrain(Format):
    """Plain texts, each with an end token. A long one becomes several windows that overlap."""

    name = "pretrain"
    Settings = PretrainDataset

    def __init__(self, entry: Dataset, cfg: Config) -> None:
        super().__init__(entry, cfg)
        assert isinstance(entry, PretrainDataset)
        self.column = entry.text_column

    def columns(self) -> Sequence[str]:
        """The column of the text."""
        return (self.column,)

    def __call__(self, row: Mapping[str, Any]) -> Text:
        """One trained segment, in windows."""
        text = row.get(self.column)
        if text is None:
            found = ", ".join(map(str, row)) or "nothing"
            raise DataError(f"{self.column} is missing; the row has: {found}. Set text_column.")
        if not isinstance(text, str):
            raise DataError(f"{self.column} must be a text, it is {text!r:.60}")
        return Text((Segment(text, True, "text"),), split=True, overlapping=True)
