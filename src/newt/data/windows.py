"""Long texts cut into overlapping windows: each token is trained exactly once, with what stands before it in sight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

IGNORED = -100
LONGEST_OVERLAP = 256
"""Tokens of context at most, as in the field's pretraining scripts."""

Window = tuple[list[int], list[int]]
"""(ids, labels) of equal length."""


def windows(ids: Sequence[int], labels: Sequence[int], prefix: Sequence[int], size: int) -> Iterator[Window]:
    """Cut a text into windows of at most ``size`` tokens.

    Every window begins with the tokens that the tokenizer puts before a text (a BOS token, for instance: models rely on
    it as the first token), then repeats ``min(256, (size - 1) // 2)`` tokens of the window before it. The repeated
    tokens are context: their labels are -100.

    Args:
        ids: tokens of the text, with the prefix and the end token.
        labels: as many.
        prefix: tokens that the tokenizer puts before every text.
        size: most tokens of a window.
    """
    head = len(prefix) if list(ids[: len(prefix)]) == list(prefix) else 0
    body = max(1, size - head)
    overlap = min(LONGEST_OVERLAP, (size - 1) // 2, body - 1)
    start = head
    while True:
        end = min(start + body, len(ids))
        if start == head:
            yield list(ids[:end]), list(labels[:end])
        else:
            known = head + overlap
            yield [*ids[:head], *ids[start:end]], [*[IGNORED] * known, *labels[start + overlap : end]]
        if end == len(ids):
            return
        start = end - overlap
