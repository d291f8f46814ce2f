"""What a chat template writes around turns, found by rendering small conversations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from newt.data.trace import Span
from newt.support.errors import DataError

Messages = Sequence[Mapping[str, Any]]
Render = Callable[[Messages, bool], tuple[str, Sequence[Span]]]
"""Text and spans of messages, with or without a generation prompt."""

_USER = {"role": "user", "content": "a"}
_ANSWER = {"role": "assistant", "content": "b"}
_CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {"name": "b", "arguments": {"c": 1}}}],
}


class Scaffold(NamedTuple):
    """What a template writes around turns; empty where it does not tell.

    Attributes:
        prompt: the generation prompt.
        header_end: what follows the role in a header.
        asks_always: whether the beginning of an answer is written without being asked for.
    """

    prompt: str
    header_end: str
    asks_always: bool


def scaffold(render: Render) -> Scaffold:
    """Find the generation prompt and the header of a template."""
    try:
        text, spans = render([_USER], False)
        prompted, _ = render([_USER], True)
    except DataError:
        return Scaffold("", "", False)
    prompt = prompted[len(text) :] if prompted.startswith(text) else ""
    ends = [e for _, e, source, _ in spans if source.field == "role"]
    bodies = [(b, e) for b, e, source, _ in spans if source.field == "content"]
    header_end = text[ends[0] : bodies[0][0]] if ends and bodies and ends[0] <= bodies[0][0] else ""
    asks = bool(bodies) and _asks(render, text[bodies[-1][1] :])
    return Scaffold(prompt, header_end, asks)


def _asks(render: Render, tail: str) -> bool:
    """Whether what stands behind a question is more than its end: it does not stand there before another question."""
    try:
        text, spans = render([_USER, _USER], False)
    except DataError:
        return False
    bodies = [(b, e) for b, e, source, _ in spans if source.field == "content"]
    return len(bodies) > 1 and not text[bodies[0][1] : bodies[-1][0]].startswith(tail)


def written_stops(render: Render, special: Collection[str], asks_always: bool) -> list[str]:
    """Special tokens with which a template ends the turns of the assistant.

    A turn may end differently at the end of the conversation, with a tool call, and before another turn. Before
    another turn the next header could be taken for an end: only a token that ends a question too is one.
    """
    found = []
    if not asks_always:
        found = [_last_token(_behind(render, [_USER, turn], -1), special) for turn in (_ANSWER, _CALL)]
    question, answer = (_behind(render, [_USER, _ANSWER, _USER, _ANSWER], i) for i in (0, 1))
    end = _first_token(question, special)
    if end and end in answer:
        found.append(end)
    return list(dict.fromkeys(token for token in found if token))


def unknown_stop(render: Render, known: Sequence[str]) -> str | None:
    """The text that ends an answer, if that is none of the known tokens."""
    tail = _behind(render, [_USER, _ANSWER], -1).strip()
    if not tail or any(stop in tail for stop in known):
        return None
    between = _behind(render, [_USER, _ANSWER, _USER, _ANSWER], 1)
    if between and not between.startswith(tail):
        tail = shared(tail, between)  # the rest is already the next turn
    return tail or None


def _behind(render: Render, messages: Messages, message: int) -> str:
    """The text between a message and the next one; empty if the template refuses the conversation."""
    try:
        text, spans = render(messages, False)
    except DataError:
        return ""
    number = message % len(messages)
    ends = [e for _, e, source, _ in spans if source.message == number and source.field != "role"]
    begins = [b for b, _, source, _ in spans if source.message > number]
    return text[max(ends) : min(begins, default=len(text))] if ends else ""


def _first_token(text: str, special: Collection[str]) -> str | None:
    text = text.lstrip()
    return max((token for token in special if text.startswith(token)), key=len, default=None)


def _last_token(text: str, special: Collection[str]) -> str | None:
    text = text.rstrip()
    return max((token for token in special if text.endswith(token)), key=len, default=None)


def shared(first: str, second: str) -> str:
    """The common beginning, which does not end inside of a ``<token>`` or ``[TOKEN]``."""
    pairs = enumerate(zip(first, second, strict=False))
    end = next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
    common = first[:end]
    if end in (len(first), len(second)):
        return common
    for opening, closing in ("<>", "[]"):
        at = common.rfind(opening)
        if at > common.rfind(closing):
            common = common[:at]
    return common
