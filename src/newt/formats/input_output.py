"""``type: input_output``: text in segments that say themselves whether they are trained, without a template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from newt.config.core import Dataset
from newt.extend import Format


class InputOutputDataset(Dataset):
    """Keys of a dataset of segments."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}


class InputOutput(Format):
    """``segments``: a list of ``{label, text}``."""

    name = "input_output"
    Settings = InputOutputDataset

    def columns(self) -> Sequence[str]:
        """The column of the segments."""
        return ("segments",)
