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
        kept: token rows made of them (a split text gives several) that may be trained or evaluated.
        too_long: token rows dropped because they exceed the length.
        too_short: dropped because they have fewer tokens than ``min_sample_len``.
        nothing_to_train: dropped because no token of theirs is trained.
        deduplicated: dropped because a row before them has the same tokens and labels.
        duplicates: token rows of which that is true, dropped or not.
        truncated: kept, but cut to the length.
        tokens: of the kept rows.
        trained: tokens of the kept rows that count in the loss.
        notes: what was odd, and how often.
        used: rows that an epoch of training takes from it, repeats counted.
        used_tokens: tokens of these.
        length_counts: these rows in the bins of ``Summary.length_edges``.
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
    deduplicated: int = 0
    duplicates: int = 0
    used: int = 0
    used_tokens: int = 0
    length_counts: Sequence[int] = field(default_factory=list)

    @property
    def dropped(self) -> int:
        """Token rows that are not used."""
        return self.too_long + self.too_short + self.nothing_to_train + self.deduplicated

    @property
    def trained_share(self) -> float:
        """Share of the tokens that count in the loss."""
        return self.trained / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class Summary:
    """All datasets of a run.

    Attributes:
        datasets: those of training, then those of evaluation.
        train_rows: rows of an epoch of training, without the evaluation rows; repeats that weights ask for counted.
        eval_rows: rows that are evaluated.
        train_tokens: tokens of the trained rows.
        trained_tokens: those of them that count in the loss.
        longest: tokens of the longest trained row.
        length_edges: borders of the length histogram, one more than ``length_counts``.
        length_counts: trained rows from each border up to the next (the last border belongs to the last bin).
        leaked: evaluation rows whose tokens are training rows as well.
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
    leaked: int = 0
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
    head = (
        "dataset", "type", "use", "rows", "kept", "dropped", "truncated", "duplicates", "tokens", "trained", "lengths",
    )  # fmt: skip
    body = [_cells(entry) for entry in summary.datasets]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [_line(row, widths) for row in (head, *body)]
    for entry in summary.datasets:
        lines += [f"{entry.path}: {reason}" for reason in _reasons(entry)]
    lines += summary.notes
    lines += _mix(summary)
    evaluated = f", {summary.eval_rows:,} evaluation rows" if summary.eval_rows else ""
    share = _share(summary.trained_tokens, summary.train_tokens)
    lines.append(
        f"{summary.train_rows:,} training rows{evaluated}; {summary.train_tokens:,} training tokens, "
        f"{share} of them trained, the rest masked; longest row {summary.longest:,}"
    )
    if summary.packing_efficiency is not None:
        lines.append(f"Packed into {summary.packed_rows:,} sequences, {summary.packing_efficiency:.2%} full")
    return "\n".join(lines)


def render_lengths(summary: Summary, lines: int = 10, width: int = 40) -> str:
    """The lengths of the training rows as bars in plain text."""
    together = max(1, -(-len(summary.length_counts) // lines))
    counts = [sum(summary.length_counts[i : i + together]) for i in range(0, len(summary.length_counts), together)]
    edges = [*summary.length_edges[:-1:together], summary.length_edges[-1]]
    most = max(counts, default=0) or 1
    digits = max(len(f"{edge:,}") for edge in edges)
    shown = ["Tokens of a training row, and how many rows have them:"]
    for count, first, after in zip(counts, edges, edges[1:], strict=False):
        bar = _bar(count / most * width)
        shown.append(f"  {first:>{digits},} - {min(after - 1, summary.longest):<{digits},}  {bar} {count:,}".rstrip())
    return "\n".join(shown)


def spark(counts: Sequence[int]) -> str:
    """Counts as one line of blocks; what is not zero can be seen."""
    most = max(counts, default=0)
    return "".join(_BLOCKS[-(-count * 8 // most) - 1] if count else " " for count in counts) if most else ""


_LEFT = (0, 1, 2, 10)
"""Columns of words; the others are numbers."""
_BLOCKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = "▏▎▍▌▋▊▉"


def _bar(length: float) -> str:
    """A bar of whole blocks and an eighth; never nothing for something."""
    eighths = max(round(length * 8), 1 if length else 0)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = enumerate(zip(cells, widths, strict=True))
    return "  ".join(cell.ljust(width) if i in _LEFT else cell.rjust(width) for i, (cell, width) in pairs).rstrip()


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
        f"{entry.duplicates:,}",
        f"{entry.tokens:,}",
        _share(entry.trained, entry.tokens),
        spark(entry.length_counts),
    )


def _reasons(entry: DatasetSummary) -> list[str]:
    parts = {
        "longer than the limit": entry.too_long,
        "too short": entry.too_short,
        "without a trained token": entry.nothing_to_train,
        "equal to an earlier row": entry.deduplicated,
    }
    dropped = ", ".join(f"{count:,} {why}" for why, count in parts.items() if count)
    reasons = [f"dropped {dropped}"] if dropped else []
    if entry.duplicates > entry.deduplicated:
        text = "rows are" if entry.duplicates > 1 else "row is"
        reasons.append(
            f"{entry.duplicates:,} {text} equal to an earlier row and kept (dataset_exact_deduplication drops them)"
        )
    return reasons + [f"{text} ({count:,} times)" if count > 1 else text for text, count in entry.notes.items()]


def _mix(summary: Summary) -> list[str]:
    """What an epoch takes from each of several datasets."""
    train = [entry for entry in summary.datasets if entry.use == "train"]
    if len(train) < 2:
        return []
    return ["An epoch takes:"] + [
        f"  {_share(entry.used, summary.train_rows):>6} of its rows, "
        f"{_share(entry.used_tokens, summary.train_tokens):>6} of its tokens from {entry.path} ({entry.used:,} rows)"
        for entry in train
    ]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "0.0%"
