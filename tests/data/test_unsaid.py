"""What a template leaves out, and turns that say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from newt.data.mask import Masker
from newt.data.render import ChatRenderer
from newt.extend import Conversation, Turn

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.reasoning_content }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}{% endfor %}</s>{% endfor %}"
)
CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}


def notes(answer: dict[str, Any], question: str = "a", trained: bool = True) -> list[str]:
    messages = [{"role": "user", "content": question}, {"role": "assistant", **answer}]
    masker = Masker(ChatRenderer(TEMPLATE, {}), "</s>")
    return masker(Conversation(messages=messages, turns=[Turn(False), Turn(trained)])).notes


def test_empty_turns_are_told() -> None:
    assert notes({"content": ""}) == ["assistant turn is empty: only what the template writes is trained"]
    assert notes({"content": " \n"}, trained=False) == ["assistant turn is empty"]
    assert notes({"content": "b"}, question="") == ["user turn is empty"]


@pytest.mark.parametrize("more", [{"tool_calls": [CALL]}, {"reasoning_content": "Hm."}])
def test_a_turn_without_content_that_says_something_is_not_empty(more: dict[str, Any]) -> None:
    assert notes({"content": "", **more}) == []
