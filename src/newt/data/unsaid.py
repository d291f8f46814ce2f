"""What a row says and its chat template leaves out, and turns that say nothing: both are counted and told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from newt.data.render import REASONING_KEYS
from newt.data.trace import Span
from newt.extend import Conversation

REASONING = "reasoning that the template leaves out"
TOOLS = "tools that the template leaves out"
EMPTY = "turn is empty"


def unsaid(conversation: Conversation, text: str, spans: Sequence[Span]) -> Iterator[str]:
    """A note for each thing that is not in the render, and for each empty turn.

    Trained turns that are missing have their own notes.

    Args:
        conversation: the row.
        text: its render.
        spans: what of it came from messages.
    """
    shown = {(source.message, source.field) for begin, end, source, _ in spans if begin < end}
    keys = {*REASONING_KEYS, conversation.reasoning_key}
    for number, (message, turn) in enumerate(zip(conversation.messages, conversation.turns, strict=True)):
        content = message.get("content")
        says = content.strip() if isinstance(content, str) else content
        if says and not turn.train and (number, "content") not in shown:
            yield f"{message.get('role', 'unknown')} turn that the template leaves out"
        thinks = any(isinstance(message.get(key), str) and message[key].strip() for key in keys)
        if thinks and (number, "reasoning") not in shown:
            yield REASONING
        if not says and not thinks and not message.get("tool_calls"):
            trained = ": only what the template writes is trained" if turn.train else ""
            yield f"{message.get('role', 'unknown')} {EMPTY}{trained}"
    for tool in conversation.tools or ():
        function = tool.get("function", tool)
        name = function.get("name") if hasattr(function, "get") else None
        if isinstance(name, str) and name not in text:
            yield TOOLS
            return
