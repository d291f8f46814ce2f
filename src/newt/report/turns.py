"""A conversation as bubbles, one for each turn, with what is trained marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from markupsafe import Markup

from newt.report.marks import visible

if TYPE_CHECKING:
    from newt.report.tokens import Span

HEADERS = ("role header", "generation prompt")
"""Reasons of text that only says whose turn it is."""
KNOWN = ("user", "assistant", "system", "tool")
NOT_RENDERED = "The template leaves this turn out."


@dataclass(frozen=True)
class Piece:
    """Neighbouring text of a turn.

    Attributes:
        kind: content, reasoning, call, stop or template.
        trained: the model learns to write it.
        text: what it says.
    """

    kind: str
    trained: bool
    text: str


@dataclass(frozen=True)
class Bubble:
    """A turn: who speaks, its number, and what it says."""

    role: str
    turn: int
    pieces: Sequence[Piece]

    @property
    def trained(self) -> bool:
        """Whether any of it is."""
        return any(piece.trained for piece in self.pieces)


def bubbles(roles: Sequence[str], spans: Sequence[Span]) -> list[Bubble]:
    """The turns of a row from its explained tokens, without the template's text between them.

    Args:
        roles: of the turns.
        spans: the tokens in their order.
    """
    found = []
    for turn, role in enumerate(roles):
        own = [span for span in spans if span.turn == turn and span.reason not in HEADERS]
        pieces = []
        for (kind, trained), group in groupby(own, key=lambda span: (_kind(span.reason), span.trained)):
            text = "".join(token.text for span in group for token in span.tokens)
            pieces.append(Piece(kind, trained, text))
        found.append(Bubble(role, turn, pieces))
    return found


def conversation(roles: Sequence[str], spans: Sequence[Span]) -> Markup:
    """The turns of a row as a part of a page."""
    turns = Markup("").join(_bubble(bubble) for bubble in bubbles(roles, spans))
    return Markup('<div class="turns">{}</div>').format(turns)


def _kind(reason: str) -> str:
    for mark, kind in (("reasoning", "reasoning"), ("tool call", "call"), ("stop token", "stop")):
        if mark in reason:
            return kind
    return "template" if reason.startswith("template text") else "content"


def _said(piece: Piece) -> str:
    """The text; that of the template in one line."""
    text = visible(piece.text)
    if piece.kind != "template":
        return text
    return text.replace("\n", "↵") + ("\n" if text.endswith("\n") else "")


def _bubble(bubble: Bubble) -> Markup:
    piece = Markup('<span class="{kind} {on}">{text}</span>')
    said = Markup("").join(
        piece.format(kind=one.kind, on="on" if one.trained else "off", text=_said(one)) for one in bubble.pieces
    )
    return Markup(
        '<div class="bubble {known}{learned}"><div class="role">{role}<span class="n">{turn}</span>{badge}</div>'
        '<div class="said">{said}</div></div>'
    ).format(
        known=bubble.role if bubble.role in KNOWN else "other",
        learned=" learned" if bubble.trained else "",
        role=visible(bubble.role),
        turn=bubble.turn,
        badge=Markup('<span class="badge">trained</span>') if bubble.trained else "",
        said=said or Markup('<span class="none">{}</span>').format(NOT_RENDERED),
    )
