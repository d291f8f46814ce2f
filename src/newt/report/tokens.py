"""Tokens that are coloured by whether they are trained: the part of a page, and a page of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from markupsafe import Markup, escape

from newt.report import numbers
from newt.report.bins import Bins, bins_figure
from newt.report.marks import visible as visible
from newt.report.page import render
from newt.report.turns import conversation

MAX_TOKENS = 2000
MAX_ROWS = 200
MAX_RAW = 20_000
NO_TEXT = "▯"
FATES = {"dropped": "Not trained", "truncated": "Truncated", "split": "Split"}
COLUMNS = Markup(
    '<div class="head"><div class="why"><span class="turn">turn</span><span class="name">reason</span>'
    '<span class="n">tokens</span></div></div>'
)


@dataclass(frozen=True)
class Token:
    """One explained token.

    Attributes:
        text: what it decodes to, possibly nothing (a part of a longer character).
        id: its number in the vocabulary.
        label: what the model learns to write here, None when masked.
        reason: why it is trained or masked.
        turn: message that it came from, None when from none.
    """

    text: str
    id: int
    label: int | None
    reason: str
    turn: int | None


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of one reason and turn, all trained or all masked; ``start`` is the place of the first."""

    start: int
    trained: bool
    reason: str
    turn: int | None
    tokens: Sequence[Token]


@dataclass(frozen=True)
class Row:
    """One row of a dataset with its explained tokens; ``hidden`` of them are not shown.

    Attributes:
        dataset: path or name.
        number: which row of the dataset.
        length: all tokens.
        trained: trained tokens among them.
        spans: the shown tokens.
        hidden: how many tokens are left out at the end.
        reasons: (reason, trained, tokens) of the shown tokens, the most frequent first.
        raw: the row as it stands in the file, as JSON.
        error: why the row cannot be used, empty when it can.
        strip: where in the row the trained tokens stand, as a bar.
        roles: of the turns, empty where there are none.
        fate: dropped, truncated or split, empty for a row that is trained as it is.
        why: the reason of its fate.
    """

    dataset: str
    number: Any
    length: int
    trained: int
    spans: Sequence[Span]
    hidden: int
    reasons: Sequence[tuple[str, bool, int]]
    raw: str
    error: str = ""
    strip: Markup = field(default_factory=Markup)
    roles: Sequence[str] = ()
    fate: str = ""
    why: str = ""


def read_row(explained: Mapping[str, Any], limit: int = MAX_TOKENS) -> Row:
    """A row from ``{"dataset", "row", "length", "trained", "tokens": [[text, id, label, reason, turn]], "raw"}``.

    It may also have ``roles``, ``fate``, ``why`` and ``error``.
    """
    everything = explained.get("tokens") or []
    tokens = [_token(item) for item in everything[:limit]]
    counts = Counter((t.reason, t.label is not None) for t in tokens)
    length = explained.get("length")
    trained = explained.get("trained")
    row_length = length if isinstance(length, int) else len(everything)
    if not isinstance(trained, int):
        trained = sum(_token(item).label is not None for item in everything)
    spans = _spans(tokens)
    return Row(
        dataset=str(explained.get("dataset") or "dataset"),
        number=explained.get("row", numbers.NONE),
        length=row_length,
        trained=trained,
        spans=spans,
        hidden=max(0, row_length - len(tokens)),
        reasons=[(reason, is_trained, n) for (reason, is_trained), n in counts.most_common()],
        raw=_raw(explained.get("raw")),
        error=str(explained.get("error") or ""),
        strip=_strip(spans, len(tokens)),
        roles=[str(role) for role in explained.get("roles") or ()],
        fate=str(explained.get("fate") or ""),
        why=str(explained.get("why") or ""),
    )


def token_rows(rows: Sequence[Row]) -> Markup:
    """The rows as folded sections, the first one open."""
    return Markup("").join(_row(row, i) for i, row in enumerate(rows))


def tokens_page(rows: Sequence[Mapping[str, Any]], title: str, packing: Bins | None = None, note: str = "") -> str:
    """One HTML file that shows explained rows token by token, at most 200 rows of 2,000 tokens.

    Args:
        rows: see :func:`read_row`.
        title: of the page.
        packing: the first packed sequences, drawn below.
        note: said below the title, such as which rows these are.
    """
    shown = [read_row(row) for row in rows[:MAX_ROWS]]
    return render(
        "tokens.html",
        title=title,
        note=note,
        rows=shown,
        left_out=len(rows) - len(shown),
        body=token_rows(shown),
        fates=sorted({row.fate for row in shown} - {""}),
        turns=any(row.roles for row in shown),
        packing=packing and bins_figure(packing),
        length=sum(row.length for row in shown),
        trained=sum(row.trained for row in shown),
        datasets=len({row.dataset for row in shown}),
    )


def _token(item: Sequence[Any]) -> Token:
    text, number, label, reason, turn = [*item, *[None] * 5][:5]
    # -100 is PyTorch's ignored label.
    trained = isinstance(label, int) and not isinstance(label, bool) and label >= 0
    return Token(str(text or ""), number, label if trained else None, str(reason or ""), turn)


def _spans(tokens: Sequence[Token]) -> list[Span]:
    spans, start = [], 0
    for (trained, reason, turn), group in groupby(tokens, key=lambda t: (t.label is not None, t.reason, t.turn)):
        members = list(group)
        spans.append(Span(start, trained, reason, turn, members))
        start += len(members)
    return spans


def _raw(raw: Any) -> str:
    if raw is None:
        return ""
    text = json.dumps(raw, indent=2, ensure_ascii=False, default=str)
    if len(text) > MAX_RAW:
        return f"{text[:MAX_RAW]}\n… {len(text) - MAX_RAW:,} more characters"
    return text


def _strip(spans: Sequence[Span], length: int) -> Markup:
    """Where in the row the trained tokens stand, as a bar."""
    rect = Markup('<rect x="{}" width="{}" height="1"/>')
    bars = Markup("").join(rect.format(span.start, len(span.tokens)) for span in spans if span.trained)
    strip = Markup('<svg class="strip" viewBox="0 0 {} 1" preserveAspectRatio="none" aria-hidden="true">{}</svg>')
    return strip.format(max(1, length), bars)


def _row(row: Row, index: int) -> Markup:
    return Markup(
        '<details class="row" data-length="{length}" data-trained="{trained}" data-masked="{masked}"'
        ' data-fate="{fate}"{opened}>{head}{body}</details>\n'
    ).format(
        length=row.length,
        trained=row.trained,
        masked=1 - row.trained / max(1, row.length),
        fate=row.fate,
        opened="" if index else Markup(" open"),
        head=_head(row),
        body=_body(row, index),
    )


def _head(row: Row) -> Markup:
    fate = Markup('<span class="fate {fate}">{fate}</span>').format(fate=row.fate) if row.fate else ""
    return Markup(
        '<summary><span class="who"><b>{dataset}</b> row {number}{fate}</span>{strip}'
        '<span class="num">{length} tokens</span><span class="num share">{trained} trained · {share}</span></summary>'
    ).format(
        dataset=visible(row.dataset),
        number=row.number,
        fate=fate,
        strip=row.strip,
        length=numbers.count(row.length),
        trained=numbers.count(row.trained),
        share=numbers.percent(row.trained, row.length),
    )


def _body(row: Row, index: int) -> Markup:
    """What becomes of the row, and its views: tokens, conversation, raw row."""
    told = ""
    if row.error:
        told = Markup('<p class="told">This row cannot be used: {}</p>').format(visible(row.error))
    elif row.why:
        told = Markup('<p class="told">{}: {}.</p>').format(FATES.get(row.fate, row.fate), visible(row.why))
    panes = [("tokens", "Tokens", _tokens(row))] if row.spans else []
    if row.roles and row.spans:
        panes.append(("turns", "Conversation", conversation(row.roles, row.spans)))
    if row.raw:
        panes.append(("raw", "Raw row", Markup("<pre>{}</pre>").format(visible(row.raw))))
    tab = Markup('<label><input type="radio" class="tab {kind}" name="view-{index}"{checked}>{name}</label>')
    tabs = Markup("").join(
        tab.format(kind=kind, index=index, name=name, checked="" if number else Markup(" checked"))
        for number, (kind, name, _) in enumerate(panes)
    )
    shown = Markup("").join(Markup('<div class="pane {}">{}</div>').format(kind, pane) for kind, _, pane in panes)
    return Markup('<div class="row-body">{}<div class="views"><div class="tabs">{}</div>{}</div></div>').format(
        told, tabs, shown
    )


def _tokens(row: Row) -> Markup:
    runs, before = [], None
    for span in row.spans:
        runs.append(_span(span, new_turn=span.turn is not None and span.turn != before))
        before = before if span.turn is None else span.turn
    more = Markup('<p class="more">{} more tokens are not shown here.</p>').format(numbers.count(row.hidden))
    return Markup('{}<div class="tokens">{}{}{}</div>').format(
        _legend(row), COLUMNS, Markup("").join(runs), more if row.hidden else ""
    )


def _legend(row: Row) -> Markup:
    """Which reasons there are and how many tokens each has, trained ones first."""
    keys = Markup("").join(
        Markup('<span class="reason {kind}" data-reason="{reason}"><i>{reason}</i> {n}</span>').format(
            kind="on" if trained else "off", reason=visible(reason) or "no reason given", n=numbers.count(n)
        )
        for reason, trained, n in sorted(row.reasons, key=lambda r: not r[1])
    )
    return Markup('<div class="reasons">{}</div>').format(keys)


def _span(span: Span, *, new_turn: bool) -> Markup:
    turn = "" if span.turn is None else span.turn
    # One long join: a row may have thousands of tokens, and a growing Markup would copy itself for each.
    text = Markup("".join(_html(token) for token in span.tokens))
    return Markup(
        '<div class="run {kind}{top}" data-start="{start}" data-turn="{turn}" data-reason="{reason}"><div class="why">'
        '<span class="turn">{turn_once}</span><span class="name">{mark}{name}</span><span class="n">{n}</span></div>'
        '<div class="text">{text}</div></div>\n'
    ).format(
        kind="on" if span.trained else "off",
        top=" top" if new_turn else "",
        start=span.start,
        reason=visible(span.reason) or "no reason given",
        turn=turn,
        turn_once=turn if new_turn else "",
        mark=Markup('<span class="mark">trained </span>') if span.trained else "",
        name=visible(span.reason),
        n=numbers.count(len(span.tokens)),
        text=text,
    )


def _html(token: Token) -> str:
    text = escape(visible(token.text) or NO_TEXT)
    text = text.replace("\t", Markup("<u>⇥</u>\t")).replace("\n", Markup("<u>↵</u>\n"))
    learns = f", learns {token.label}" if token.label is not None and token.label != token.id else ""
    return f'<i title="id {escape(token.id)}{learns}">{text}</i>'
