"""``type: pretrain``: long texts, streamed and cut into windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import NonNegativeInt

from newt.config.core import Dataset
from newt.extend import Format


class PretrainDataset(Dataset):
    """Keys of an entry of ``pretraining_dataset``."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    type: str | None = "pretrain"
    """Layout of the rows."""
    split: str | None = "train"
    """Split to read."""
    text_column: str = "text"
    """Column that holds the text."""
    skip: NonNegativeInt | None = None
    """Rows to leave out at the beginning."""


class Pretrain(Format):
    """Plain texts."""

    name = "pretrain"
    Settings = PretrainDataset

    def columns(self) -> Sequence[str]:
        """The column of the text."""
        entry = self.entry
        return (entry.text_column,) if isinstance(entry, PretrainDataset) else ()
