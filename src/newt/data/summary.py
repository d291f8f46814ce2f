"""What became of the rows: how many were read, dropped, cut and masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class DatasetSummary:
    """One dataset.

    Attributes:
        path: as in the config.
        type: name of the format.
        use: train or eval.
        rows: read.
        kept: token rows made of them (a split text gives several).
        too_long: token rows dropped because they exceed the length.
        too_short: dropped because they have fewer tokens than ``min_sample_len``.
        nothing_to_train: dropped because no token of theirs is trained.
        truncated: kept, but cut to the length.
        tokens: of the kept rows.
        trained: tokens of the kept rows that count in the loss.
        notes: what was odd, and how often.
    """

    path: str
    type: str
    use: str
    rows: int
    kept: int
    too_long: int = 0
    too_short: int = 0
    nothing_to_train: int = 0
    truncated: int = 0
    tokens: int = 0
    trained: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """Token rows that are not used."""
        return self.too_long + self.too_short + self.nothing_to_train

    @property
    def trained_share(self) -> float:
        """Share of the tokens that count in the loss."""
        return self.trained / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Summary:
    """All datasets of a run.

    Attributes:
        datasets: those of training, then those of evaluation.
        train_rows: rows that are trained, after the evaluation rows were taken.
        eval_rows: rows that are evaluated.
        train_tokens: tokens of the trained rows.
        trained_tokens: those of them that count in the loss.
        longest: tokens of the longest trained row.
        length_edges: borders of the length histogram, one more than ``length_counts``.
        length_counts: trained rows from each border up to the next (the last border belongs to the last bin).
        notes: what was odd about the data as a whole.
        packing_efficiency: share of the slots that hold a token when training rows are packed; None: not packed.
        packed_rows: sequences that packing makes; None: not packed.
    """

    datasets: Sequence[DatasetSummary]
    train_rows: int
    eval_rows: int
    train_tokens: int
    trained_tokens: int
    longest: int
    length_edges: Sequence[int]
    length_counts: Sequence[int]
    notes: Sequence[str] = field(default_factory=list)
    packing_efficiency: float | None = None
    packed_rows: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Summary:
        """The inverse of ``to_dict``."""
        return cls(**{**stored, "datasets": [DatasetSummary(**entry) for entry in stored["datasets"]]})


def histogram(lengths: np.ndarray, bins: int = 20) -> tuple[list[int], list[int]]:
    """(edges, counts) of a histogram over whole numbers with at most ``bins`` bins of one width."""
    if not len(lengths):
        return [0, 1], [0]
    low, high = int(lengths.min()), int(lengths.max())
    width = max(1, -(-(high + 1 - low) // bins))
    edges = list(range(low, high + width + 1, width))
    counts, _ = np.histogram(lengths, edges)
    return edges, counts.tolist()


def render(summary: Summary) -> str:
    """The summary as a table in plain text, and what the user should know below it."""
    head = ("dataset", "type", "use", "rows", "kept", "dropped", "truncated", "tokens", "trained")
    body = [_cells(entry) for entry in summary.datasets]
    widths = [max(len(row[column]) for row in (head, *body)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if column < 3 else cell.rjust(width) for column, (cell, width) in parts).rstrip()
        for parts in (list(enumerate(zip(row, widths, strict=True))) for row in (head, *body))
    ]
    for entry in summary.datasets:
        lines += [f"{entry.path}: {reason}" for reason in _reasons(entry)]
    lines += summary.notes
    evaluated = f", {summary.eval_rows:,} evaluation rows" if summary.eval_rows else ""
    share = _share(summary.trained_tokens, summary.train_tokens)
    lines.append(
        f"{summary.train_rows:,} training rows{evaluated}; {summary.train_tokens:,} training tokens, "
        f"{share} of them trained, the rest masked; longest row {summary.longest:,}"
    )
    if summary.packing_efficiency is not None:
        lines.append(f"Packed into {summary.packed_rows:,} sequences, {summary.packing_efficiency:.2%} full")
    return "\n".join(lines)


def _cells(entry: DatasetSummary) -> tuple[str, ...]:
    made = entry.kept + entry.dropped
    return (
        entry.path,
        entry.type,
        entry.use,
        f"{entry.rows:,}",
        f"{entry.kept:,}",
        f"{entry.dropped:,} ({_share(entry.dropped, made)})",
        f"{entry.truncated:,} ({_share(entry.truncated, made)})",
        f"{entry.tokens:,}",
        _share(entry.trained, entry.tokens),
    )


def _reasons(entry: DatasetSummary) -> list[str]:
    parts = {
        "longer than the limit": entry.too_long,
        "too short": entry.too_short,
        "without a trained token": entry.nothing_to_train,
    }
    dropped = ", ".join(f"{count:,} {why}" for why, count in parts.items() if count)
    notes = [f"{text} ({count:,} times)" if count > 1 else text for text, count in entry.notes.items()]
    return ([f"dropped {dropped}"] if dropped else []) + notes


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0.0%"
