"""Questions to a model, from token rows: what comes before a trained text, and that text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Prompt = tuple[list[int], list[int]]
"""(ids of the prompt, ids of the text that was trained)"""


def prompts_of(row: Mapping[str, Any]) -> Iterator[Prompt]:
    """Every trained text of a row, with all that stands before it; none for what begins with trained text."""
    if "labels" not in row:
        return
    ids, labels = row["input_ids"].tolist(), row["labels"].tolist()
    begin = 0
    while begin < len(labels):
        if labels[begin] == -100:
            begin += 1
            continue
        end = next((place for place in range(begin, len(labels)) if labels[place] == -100), len(labels))
        if begin:
            yield ids[:begin], ids[begin:end]
        begin = end


def first_prompt(row: Mapping[str, Any]) -> Prompt | None:
    """The first of them."""
    return next(prompts_of(row), None)


def split_text(row: Mapping[str, Any], ratio: float) -> Prompt | None:
    """A row in two: so large a share of it is the prompt. None for a row of one token."""
    ids = row["input_ids"].tolist()
    at = min(max(1, int(len(ids) * ratio)), len(ids) - 1)
    return (ids[:at], ids[at:]) if len(ids) > 1 else None


def held_out(trainer: Any) -> Any:
    """Evaluation rows, else training rows, else none (rows of a stream come only once)."""
    if trainer.eval_dataset is not None:
        return trainer.eval_dataset
    return trainer.train_dataset if hasattr(trainer.train_dataset, "__getitem__") else ()
