"""The chat templates that come with TRL: many model families, each rendered by the library and traced."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from newt.data.mask import NOT_RENDERED, Masker
from newt.data.render import ChatRenderer
from newt.extend import Conversation, Turn
from newt.support.errors import DataError

_SPEC = find_spec("trl")
FOLDER = Path(str(_SPEC.origin)).parent / "chat_templates" if _SPEC else Path()
TEMPLATES = {path.stem: path for path in sorted(FOLDER.glob("*.jinja"))}
WORDS = {"bos_token": "<BOS>", "eos_token": "<EOS>"}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "tide", "description": "d", "parameters": {"type": "object", "properties": {}}},
    }
]
CALL = {"type": "function", "function": {"name": "tide", "arguments": {"port": "Brest", "hour": 6}}}


def say(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CONVERSATIONS = {
    "plain": [
        say("user", "Hi"),
        say("assistant", "One."),
        say("user", "assistant"),
        say("assistant", "Two\n\nthree ☀"),
    ],
    "reasoning": [
        say("user", "q"),
        say("assistant", "A1", reasoning_content="R1"),
        say("user", "r"),
        say("assistant", "A2", reasoning_content="R2"),
    ],
    "tools": [
        say("user", "q"),
        say("assistant", "", tool_calls=[CALL]),
        say("tool", "4.2", name="tide"),
        say("assistant", "It is 4.2."),
    ],
}


@pytest.mark.parametrize("kind", CONVERSATIONS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_text_and_targets(name: str, kind: str) -> None:
    template = TEMPLATES[name].read_text()
    messages, tools = CONVERSATIONS[kind], TOOLS if kind == "tools" else None
    masker = Masker(ChatRenderer(template, WORDS), "<EOS>")
    row = Conversation(messages, [Turn(m["role"] == "assistant") for m in messages], tools)
    try:
        [[expected], _] = render_jinja_template([messages], tools=tools, chat_template=template, **WORDS)
    except (TemplateError, TypeError):
        with pytest.raises(DataError):
            masker(row)
        return
    masked = masker(row)
    assert masked.text == expected
    trained = [masked.text[r.begin : r.end] for r in masked.regions if r.reason == "assistant content"]
    if NOT_RENDERED in masked.notes:
        assert all(message["content"] not in expected for message in messages if message["role"] == "assistant")
        return
    assert trained == [m["content"] for m in messages if m["role"] == "assistant" and m["content"]]
    others = [m["content"] for m in messages if m["role"] != "assistant"]
    for region in masked.regions:  # nothing of another message, and no header of the next turn
        text = masked.text[region.begin : region.end]
        assert region.reason == "assistant content" or not any(text == other for other in others)
    ends = [r.end for r in masked.regions]
    assert all(begin.begin >= end for begin, end in zip(masked.regions[1:], ends, strict=False))
