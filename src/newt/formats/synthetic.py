"""``type: _synthetic``: random tokens, to measure speed and memory without data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from newt.config.core import Dataset
from newt.config.section import Config, Problem
from newt.extend import Format


class SyntheticDataset(Dataset):
    """Keys of a made-up dataset."""

    coming: ClassVar[frozenset[str]] = Dataset.coming | {"type"}

    path: str = "synthetic"
    """A word; nothing is read."""
    length: PositiveInt = 1000
    """Number of rows."""
    sequence_length: PositiveInt | None = None
    """Tokens of a row. Default: ``sequence_len``."""
    min_input_id: NonNegativeInt = 100
    """Smallest token id."""
    max_input_id: PositiveInt | None = None
    """The ids are smaller than this. Default: the size of the vocabulary."""
    seed: int | None = None
    """Seed of the ids. Default: that of the run."""

    def check_entry(self, cfg: Config, key: str) -> Iterable[Problem]:
        """There must be an id to draw."""
        yield from super().check_entry(cfg, key)
        if self.max_input_id is not None and self.max_input_id <= self.min_input_id:
            yield cfg.problem(f"{key}.max_input_id", f"must be greater than min_input_id ({self.min_input_id}).")


class Synthetic(Format):
    """Random token ids."""

    name = "_synthetic"
    Settings = SyntheticDataset
