"""Explained rows on a terminal: the tokens with a margin that says what is trained, and why."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from newt.report import numbers
from newt.report.bins import Bins, bars, told
from newt.report.marks import visible
from newt.report.tokens import FATES, NO_TEXT, Row, Span, read_row
from newt.report.turns import NOT_RENDERED, Bubble, bubbles

TRAINED, MASKED, QUIET, WRONG = "bold green", "dim", "dim", "bold yellow"
WIDTH = 100
MARGIN = 30
OPEN, CLOSE = "⟦", "⟧"
View = Literal["tokens", "conversation", "raw"]


def show_rows(
    rows: Sequence[Mapping[str, Any]], *, width: int | None = None, color: bool, view: View = "tokens"
) -> str:
    """Rows as text of at most ``width`` columns (default 100; at least 40).

    Args:
        rows: see ``report.tokens.read_row``.
        width: columns.
        color: trained text is bold green; otherwise it stands between ⟦ and ⟧.
        view: ``tokens``: each line has its margin with the turn and the reason; ``conversation``: turn by turn;
            ``raw``: as the row stands in the dataset.
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
        for line in _row(read_row(explained), columns, console, view):
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
    return out.getvalue()


def show_packing(packing: Bins, *, width: int | None = None) -> str:
    """The first packed sequences, a line each, in at most ``width`` columns."""
    lines = [told(packing), *bars(packing, max(40, width or WIDTH))]
    more = packing.bins - len(packing.first)
    if more > 0:
        lines.append(f"{numbers.count(more)} more sequences are not shown.")
    return "\n".join(lines)


def _row(row: Row, columns: int, console: Console, view: View) -> list[Text]:
    head = f"{visible(row.dataset)} row {row.number}: {numbers.count(row.length)} tokens, "
    lines = [Text(f"{head}{numbers.count(row.trained)} trained ({numbers.percent(row.trained, row.length)})", "bold")]
    if row.error:
        lines.append(Text(f"This row cannot be used: {visible(row.error)}", WRONG))
    elif row.why:
        lines.append(Text(f"{FATES.get(row.fate, row.fate)}: {visible(row.why)}.", WRONG))
    if view == "raw":
        return lines + [Text(line) for line in visible(row.raw).split("\n")]
    if view == "conversation" and row.roles:
        lines += [line for bubble in bubbles(row.roles, row.spans) for line in _bubble(bubble, columns, console)]
    else:
        lines += _spans(row, columns, console)
    if row.hidden:
        lines.append(Text(f"{numbers.count(row.hidden)} more tokens are not shown.", QUIET))
    return lines


def _spans(row: Row, columns: int, console: Console) -> Iterator[Text]:
    """The tokens, with the reason in the margin of each line."""
    digits = max((len(str(span.turn)) for span in row.spans if span.turn is not None), default=0)
    names = [_name(span, digits) for span in row.spans]
    margin = min(MARGIN, columns // 3, max((len(name) for name in names), default=0))
    for span, name in zip(row.spans, names, strict=True):
        label = name if len(name) <= margin else name[: margin - 1] + "…"
        text = "".join(visible(token.text) or NO_TEXT for token in span.tokens)
        for i, part in enumerate(_wrapped(text, span.trained, columns - margin - 3, console)):
            yield _with_margin((label if i == 0 else "").ljust(margin + 1), span.trained, part)


def _bubble(bubble: Bubble, columns: int, console: Console) -> Iterator[Text]:
    """A turn, with who speaks above it."""
    state = "trained" if bubble.trained else "not trained"
    yield Text(f"{bubble.turn} {visible(bubble.role)}, {state}", TRAINED if bubble.trained else "bold")
    for piece in bubble.pieces:
        for part in _wrapped(visible(piece.text), piece.trained, columns - 4, console):
            yield _with_margin("  ", piece.trained, part)
    if not bubble.pieces:
        yield _with_margin("  ", False, Text(NOT_RENDERED, QUIET))


def _with_margin(side: str, trained: bool, text: Text) -> Text:
    style = TRAINED if trained else QUIET
    line = Text.assemble(Text(side, style), Text("┃" if trained else "│", style), " ", text)
    line.rstrip()
    return line


def _name(span: Span, digits: int) -> str:
    """The turn in a column of its own (none when the row has no turns), and the reason."""
    turn = "" if span.turn is None else str(span.turn)
    reason = visible(span.reason).replace("\n", " ") or ("trained" if span.trained else "masked")
    return f"{turn:>{digits}} {reason}" if digits else reason


def _wrapped(text: str, trained: bool, columns: int, console: Console) -> list[Text]:
    """Text in lines of at most ``columns`` cells."""
    # The mark of a newline ends its line; the one at the very end needs no empty line after it.
    text = text.replace("\t", "⇥").replace("\n", "↵\n").removesuffix("\n")
    if trained and console.no_color:
        text = f"{OPEN}{text}{CLOSE}"
    styled = Text(text, TRAINED if trained else MASKED)
    return [part for line in styled.split("\n") for part in line.wrap(console, columns, overflow="fold") or [line]]
