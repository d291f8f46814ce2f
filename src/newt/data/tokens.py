"""What the row tokenizers make: token rows, explained tokens, and the error that names a row of a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from newt.support.errors import DataError

IGNORED = -100
"""Label of a token that is not trained."""


class TokenRow(NamedTuple):
    """One training row: ``input_ids`` and ``labels``, both int32 (length,)."""

    input_ids: np.ndarray
    labels: np.ndarray


class ExplainedToken(NamedTuple):
    """A token with the reason for its label, and the message it belongs to."""

    id: int
    text: str
    label: int
    reason: str
    turn: int | None


class RowError(DataError):
    """A row of a batch cannot be used.

    Attributes:
        index: its place in the batch.
    """

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index
