"""Where the text of messages stands whose provenance a template lost, found by comparing renders.

The second method of the tracer. A template that turns text into markup, or uses a filter that rewrites strings, leaves
a render without spans for a message. Then the conversation is rendered again with a placeholder in that message: what
differs between the renders is its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from newt.data.trace import Source, Span
from newt.support.errors import DataError

Messages = Sequence[Mapping[str, Any]]


class Recovered(NamedTuple):
    """Spans that were found, and messages whose text is in the render at an unknown place."""

    spans: list[Span]
    unknown: set[int]


def recover(
    render: Callable[[Messages], str],
    messages: Messages,
    text: str,
    spans: Sequence[Span],
    reasoning_keys: Sequence[str],
) -> Recovered:
    """Find what the spans do not show.

    Args:
        render: the text of messages.
        messages: the conversation.
        text: its render.
        spans: what is known about it.
        reasoning_keys: names of the reasoning of a message.
    """
    shown = {(source.message, source.field) for _, _, source, _ in spans}
    found = Recovered([], set())
    placeholder = "qplaceholderq"
    while placeholder in text:
        placeholder += "q"
    for i, message in enumerate(messages):
        for field, replaced in _lost(i, message, shown, reasoning_keys, placeholder):
            try:
                other = render([*messages[:i], replaced, *messages[i + 1 :]])
            except DataError:
                continue
            if other == text:
                continue
            span = _place(text, other, placeholder, Source(i, field), message)
            if span is None:
                found.unknown.add(i)
            else:
                found.spans.append(span)
    return found


def _lost(
    index: int,
    message: Mapping[str, Any],
    shown: set[tuple[int, str]],
    reasoning_keys: Sequence[str],
    placeholder: str,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Fields that say something and are not shown, each with the message in which it says the placeholder.

    Templates leave out old reasoning on purpose: it is looked for only if nothing else of the turn is shown.
    """
    content, calls = message.get("content"), message.get("tool_calls")
    if isinstance(content, str) and content.strip() and (index, "content") not in shown:
        yield "content", {**message, "content": placeholder}
    if calls and (index, "tool_calls") not in shown:
        call = {"type": "function", "id": "placeholder", "function": {"name": placeholder, "arguments": {}}}
        yield "tool_calls", {**message, "tool_calls": [call]}
    reasoning = {key: placeholder for key in reasoning_keys if message.get(key)}
    if reasoning and not any((index, field) in shown for field in ("content", "tool_calls", "reasoning")):
        yield "reasoning", {**message, **reasoning}


def _place(text: str, other: str, placeholder: str, source: Source, message: Mapping[str, Any]) -> Span | None:
    """The span in which two renders differ, if it holds the field and nothing else."""
    if source.field != "content":
        begin = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
        return None if begin is None else (begin, _end(text, other, begin), source, -1)
    before, found, after = other.partition(placeholder)
    if not found or placeholder in after or not (text.startswith(before) and text.endswith(after)):
        return None
    begin, end = len(before), len(text) - len(after)
    content = message["content"]
    if end < begin or text[begin:end].strip() != content.strip():
        return None
    return begin, end, source, content.find(text[begin:end]) if text[begin:end] in content else -1


def _end(text: str, other: str, begin: int) -> int:
    """The end of the part of the text that is not the common end of both."""
    limit = min(len(text), len(other)) - begin
    pairs = zip(reversed(text), reversed(other), strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), limit)
    return len(text) - min(same, limit)
