from __future__ import annotations

from typing import Any

import pytest

from newt.data.mask import COMPARED, NO_CALLS, NOT_RENDERED, Masker
from newt.data.render import ChatRenderer
from newt.extend import Conversation, Turn
from newt.support.errors import DataError

CALL = [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ CONTENT }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chatml(content: str) -> Masker:
    return Masker(ChatRenderer(CHATML.replace("CONTENT", content), {}), "<|im_end|>")


def say(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def row(*messages: dict[str, Any]) -> Conversation:
    return Conversation(messages, [Turn(message["role"] == "assistant") for message in messages])


def trained(masker: Masker, conversation: Conversation) -> str:
    masked = masker(conversation)
    return "|".join(masked.text[r.begin : r.end] for r in masked.regions if r.train and r.begin < r.end)


TALK = row(
    say("user", "hi"), say("assistant", " ok "), say("user", "ok"), say("assistant", "<|im_start|>assistant\nhi")
)
LOSING = [
    "m.content | safe",
    "m.content | forceescape | replace('&lt;', '<') | replace('&gt;', '>')",
    "m.content | string | list | join | safe",
    "(m.content | safe) | trim",
    "m.content | reverse | list | reverse | join | safe",
]


@pytest.mark.parametrize("content", LOSING)
def test_a_template_that_loses_where_text_came_from_trains_the_same(content: str) -> None:
    trims = "trim" in content
    plain = chatml("m.content | trim" if trims else "m.content")
    assert trained(chatml(content), TALK) == trained(plain, TALK)
    assert plain(TALK).notes == []
    assert chatml(content)(TALK).notes in ([COMPARED], [])


def test_it_is_said_once_for_each_conversation() -> None:
    assert chatml("m.content | safe")(TALK).notes == [COMPARED]


def test_flags_narrow_a_recovered_turn() -> None:
    messages = [say("user", "hi"), say("assistant", " Hm.  Yes.")]
    flags = Conversation(messages, [Turn(False), Turn(True, spans=[(0, 5, False), (5, 10, True)])])
    assert trained(chatml("(m.content | safe) | trim"), flags) == " Yes.|<|im_end|>"


@pytest.mark.parametrize("content", ["m.content | e", "m.content | urlencode | safe", "(m.content * 2) | safe"])
def test_a_trained_text_that_is_rewritten_is_an_error(content: str) -> None:
    with pytest.raises(DataError, match=r"message 1 \(assistant\): the chat template rewrites its text"):
        chatml(content)(row(say("user", "hi"), say("assistant", "a < b")))


def test_a_rewritten_text_that_is_not_trained_does_no_harm() -> None:
    template = "m.content | e if m.role == 'user' else m.content"
    assert trained(chatml(template), row(say("user", "a < b"), say("assistant", "c"))) == "c|<|im_end|>"


def test_what_is_not_rendered_stays_not_rendered() -> None:
    masked = chatml("(m.content | safe) if loop.last else '-'")(TALK)
    assert masked.notes[:2] == [COMPARED, NOT_RENDERED]


def test_tool_calls_without_provenance() -> None:
    calls = "{% for c in m.tool_calls or [] %}[{{ c.function.name | safe }}]{% endfor %}"
    template = CHATML.replace("{{ CONTENT }}", "{{ m.content }}" + calls)
    masker = Masker(ChatRenderer(template, {}), "<|im_end|>")
    masked = row(say("user", "hi"), say("assistant", "", tool_calls=CALL), say("user", "f"), say("assistant", "done"))
    assert trained(masker, masked).replace("|", "") == "[f]<im_end>done<im_end>"
    assert masker(masked).notes == [COMPARED]
    assert NO_CALLS not in masker(masked).notes


def test_a_placeholder_that_the_text_already_holds() -> None:
    conversation = row(say("user", "qplaceholderq"), say("assistant", "qplaceholderqq"))
    assert trained(chatml("m.content | safe"), conversation) == "qplaceholderqq|<|im_end|>"
