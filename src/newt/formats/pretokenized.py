"""Rows that are tokenized already: ``input_ids`` and ``labels``, perhaps with an ``attention_mask``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from newt.extend import Format, Tokens
from newt.support.errors import DataError


class Pretokenized(Format):
    """Token rows as they are: no beginning or end token is added. ``type`` is empty."""

    name = "pretokenized"

    @classmethod
    def reads(cls, kind: Any) -> bool:
        """No type, or its name."""
        return kind in (None, "", cls.name)

    def columns(self) -> Sequence[str]:
        """``attention_mask`` may be missing."""
        return ("input_ids", "labels")

    def __call__(self, row: Mapping[str, Any]) -> Tokens:
        """The row without its padding."""
        ids, labels = _numbers(row, "input_ids"), _numbers(row, "labels")
        if len(ids) != len(labels):
            raise DataError(f"input_ids has {len(ids)} entries and labels {len(labels)}")
        if row.get("attention_mask") is not None:
            kept = _seen(_numbers(row, "attention_mask"), len(ids))
            ids, labels = ids[kept], labels[kept]
        for place, (id_, label) in enumerate(zip(ids, labels, strict=True)):
            if label not in (id_, -100):
                raise DataError(f"labels[{place}] is {label}: it must be -100 or the token itself ({id_})")
        return Tokens(ids, labels)


def _numbers(row: Mapping[str, Any], column: str) -> Sequence[int]:
    values = row.get(column)
    if values is None:
        known = ", ".join(map(str, row)) or "nothing"
        raise DataError(f"{column} is missing; the row has: {known}. Set type if the rows are not tokenized")
    if not isinstance(values, list | tuple) or not all(type(value) is int for value in values):
        raise DataError(f"{column} must be a list of whole numbers")
    return values


def _seen(mask: Sequence[int], length: int) -> slice:
    """What the mask leaves, without padding at either end."""
    if len(mask) != length:
        raise DataError(f"attention_mask has {len(mask)} entries and input_ids {length}")
    first = next((place for place, value in enumerate(mask) if value), length)
    last = next((length - place for place, value in enumerate(reversed(mask)) if value), first)
    if not all(value == 1 for value in mask[first:last]):
        raise DataError("attention_mask hides tokens between others: only padding at the ends can be left out")
    return slice(first, last)
