"""``type: _synthetic``: random tokens, to measure speed and memory without data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import NonNegativeInt, PositiveInt

from newt.config.core import Batch, Dataset, RunControl
from newt.config.section import Config, Problem
from newt.extend import Format, Tokens
from newt.support.errors import DataError, NewtError


class SyntheticDataset(Dataset):
    """Keys of a made-up dataset."""

    reads_path: ClassVar[bool] = False

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
    """Random token ids, all of them trained."""

    name = "_synthetic"
    Settings = SyntheticDataset

    def source(self, tokenizer: Any) -> Any:
        """Rows of random ids, the same for the same seed.

        Raises:
            NewtError: the vocabulary is too small for ``min_input_id`` or ``max_input_id``.
        """
        from newt.data.synthetic import random_rows

        entry = self.entry
        assert isinstance(entry, SyntheticDataset)
        high = entry.max_input_id or len(tokenizer)
        if not entry.min_input_id < high <= len(tokenizer):
            raise NewtError(f"{entry.path}: the ids must lie below {len(tokenizer)}, the size of the vocabulary.")
        return random_rows(
            entry.path,
            rows=entry.length,
            tokens=entry.sequence_length or self.cfg[Batch].sequence_len,
            ids=range(entry.min_input_id, high),
            seed=self.cfg[RunControl].seed if entry.seed is None else entry.seed,
        )

    def __call__(self, row: Mapping[str, Any]) -> Tokens:
        """The ids, as labels too."""
        ids = row.get("input_ids")
        if ids is None:
            raise DataError("_synthetic makes its own rows")
        return Tokens(ids, ids, reason="random")
