"""Explained rows on a terminal: the tokens with a margin that says what is trained, and why."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from newt.report import numbers
from newt.report.tokens import NO_TEXT, Row, Span, read_row, visible

TRAINED, MASKED, QUIET, WRONG = "bold green", "dim", "dim", "bold yellow"
WIDTH = 100
MARGIN = 30
OPEN, CLOSE = "⟦", "⟧"


def show_rows(rows: Sequence[Mapping[str, Any]], *, width: int | None = None, color: bool) -> str:
    """Rows as text of at most ``width`` columns (default 100; at least 40).

    Each line has its margin: the turn, the reason. Trained text is bold green, or between ⟦ and ⟧ without colour.
    """
    columns = max(40, width or WIDTH)
    out = io.StringIO()
    console = Console(
        file=out,
        width=columns,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        emoji=False,
        markup=False,
        soft_wrap=False,
        legacy_windows=False,
        _environ={},
    )
    for index, explained in enumerate(rows):
        if index:
            console.print()
        for line in _row(read_row(explained), columns, color, console):
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
    return out.getvalue()


def _row(row: Row, columns: int, color: bool, console: Console) -> list[Text]:
    head = f"{visible(row.dataset)} row {row.number}: {numbers.count(row.length)} tokens, "
    lines = [Text(f"{head}{numbers.count(row.trained)} trained ({numbers.percent(row.trained, row.length)})", "bold")]
    digits = max((len(str(span.turn)) for span in row.spans if span.turn is not None), default=0)
    names = [_name(span, digits) for span in row.spans]
    margin = min(MARGIN, columns // 3, max((len(name) for name in names), default=0))
    if row.error:
        lines.append(Text(f"This row cannot be used: {visible(row.error)}", WRONG))
    for span, name in zip(row.spans, names, strict=True):
        label = name if len(name) <= margin else name[: margin - 1] + "…"
        for i, text in enumerate(_text(span, columns - margin - 3, color, console)):
            bar = Text("┃" if span.trained else "│", TRAINED if span.trained else QUIET)
            side = Text((label if i == 0 else "").ljust(margin + 1), TRAINED if span.trained else QUIET)
            line = Text.assemble(side, bar, " ", text)
            line.rstrip()
            lines.append(line)
    if row.hidden:
        lines.append(Text(f"{numbers.count(row.hidden)} more tokens are not shown.", QUIET))
    return lines


def _name(span: Span, digits: int) -> str:
    """The turn in a column of its own (none when the row has no turns), and the reason."""
    turn = "" if span.turn is None else str(span.turn)
    reason = visible(span.reason).replace("\n", " ") or ("trained" if span.trained else "masked")
    return f"{turn:>{digits}} {reason}" if digits else reason


def _text(span: Span, columns: int, color: bool, console: Console) -> list[Text]:
    """The text of a span in lines of at most ``columns`` cells."""
    text = "".join(visible(token.text) or NO_TEXT for token in span.tokens)
    # The mark of a newline ends its line; the one at the very end needs no empty line after it.
    text = text.replace("\t", "⇥").replace("\n", "↵\n").removesuffix("\n")
    if span.trained and not color:
        text = f"{OPEN}{text}{CLOSE}"
    styled = Text(text, TRAINED if span.trained else MASKED)
    return [part for line in styled.split("\n") for part in line.wrap(console, columns, overflow="fold") or [line]]
