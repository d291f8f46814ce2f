"""The first packed sequences as a picture: each a bar of its rows, with the share of it that is filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from markupsafe import Markup

from newt.report import numbers
from newt.report.marks import visible

SHADES = 6
"""Neighbouring rows of a bar differ in their shade."""


class Bins(Protocol):
    """How rows are packed: see ``data.selection.Packing``."""

    @property
    def capacity(self) -> int:
        """Tokens of a sequence."""

    @property
    def rows(self) -> int:
        """Packed rows."""

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""

    @property
    def bins(self) -> int:
        """Sequences in all."""

    @property
    def first(self) -> Sequence[Sequence[tuple[str, int, int]]]:
        """The first sequences: (dataset, number of the row, tokens) of each of their rows."""


def told(packing: Bins) -> str:
    """The packing in one sentence."""
    share = _share(packing.tokens, packing.bins * packing.capacity)
    return (
        f"{numbers.count(packing.rows)} rows fill {numbers.count(packing.bins)} sequences of "
        f"{numbers.count(packing.capacity)} tokens, {share} full."
    )


def bins_figure(packing: Bins) -> Markup:
    """The picture with its sentence, a part of a page."""
    bars = Markup("").join(_bar(number, rows, packing.capacity) for number, rows in enumerate(packing.first))
    more = packing.bins - len(packing.first)
    rest = Markup('<p class="more">{} more sequences are not shown here.</p>').format(numbers.count(more))
    return Markup('<p class="lead">{} Point at a row for its number.</p><div class="bins">{}</div>{}').format(
        told(packing), bars, rest if more > 0 else ""
    )


def _bar(number: int, rows: Sequence[tuple[str, int, int]], capacity: int) -> Markup:
    at, rects = 0, []
    rect = Markup('<rect class="hit s{}" x="{}" width="{}" height="1"><title>{}</title></rect>')
    for place, (dataset, row, length) in enumerate(rows):
        name = f"{visible(dataset)} row {row}: {numbers.count(length)} tokens"
        rects.append(rect.format(place % SHADES, at, length, name))
        at += length
    free = capacity - at
    if free > 0:
        rects.append(rect.format("-free", at, free, f"{numbers.count(free)} tokens of padding"))
    return Markup(
        '<div class="bin"><span class="n">{number}</span><svg viewBox="0 0 {capacity} 1" preserveAspectRatio="none"'
        ' role="img" aria-label="{count} rows, {share} full">{rects}</svg><span class="full">{share}</span>'
        '<span class="count">{count} row{s}</span></div>'
    ).format(
        number=number,
        capacity=max(capacity, at),
        rects=Markup("").join(rects),
        count=len(rows),
        s="" if len(rows) == 1 else "s",
        share=_share(at, capacity),
    )


def _share(part: int, whole: int) -> str:
    """Rounded down: what reads as full is full."""
    return f"{1000 * part // max(1, whole) / 10:.1f} %"


def bars(packing: Bins, columns: int) -> list[str]:
    """The picture in plain characters, one line for each sequence."""
    width = max(10, columns - 24)
    lines = []
    for number, rows in enumerate(packing.first):
        at, bar = 0, ""
        for place, (_, _, length) in enumerate(rows):
            at += length
            cells = round(at / max(1, packing.capacity) * width) - len(bar)
            bar += "█▓"[place % 2] * max(0, cells)
        share = _share(at, packing.capacity)
        count = f"{len(rows)} row{'' if len(rows) == 1 else 's'}"
        lines.append(f"{number:>4} {bar[:width].ljust(width, '·')} {share:>7} {count:>8}")
    return lines
