from __future__ import annotations

import pytest

from newt.data.mask import Masker
from newt.data.render import ChatRenderer

PROMPT = "{% if add_generation_prompt %}<|assistant|>{% endif %}"
HARMONY = (
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
    "{% if m.tool_calls %}<|call|>{% elif loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
SPECIAL = {
    "<|start|>",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
    "<|user|>",
    "<|assistant|>",
    "</s>",
    "<eot>",
}


def masker(template: str, eos: str = "</s>", eot: list[str] | None = None) -> Masker:
    return Masker(ChatRenderer(template, {}), eos, eot, SPECIAL)


def test_a_template_with_three_ends() -> None:
    found = masker(HARMONY, "<|return|>")
    assert found.written == ["<|return|>", "<|call|>", "<|end|>"]
    assert found.unknown_stop is None


def test_given_tokens_are_taken_as_they_are() -> None:
    assert masker(HARMONY, "<|return|>", ["<|end|>"]).written == []
    assert masker(HARMONY, "<|return|>", ["<|end|>"]).stops == ["<|return|>", "<|end|>"]


@pytest.mark.parametrize(
    ("body", "written"),
    [
        ("<|{{ m.role }}|>{{ m.content }}<eot>\n", ["<eot>"]),
        ("<|{{ m.role }}|>{{ m.content }}</done><eot>", ["<eot>"]),
        ("<|{{ m.role }}|>{{ m.content }}", []),  # the next header is not the end of a turn
        ("<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}", ["</s>"]),
    ],
)
def test_ends_of_turns(body: str, written: list[str]) -> None:
    template = "{% for m in messages %}" + body + "{% endfor %}" + PROMPT
    assert masker(template).written == written


def test_a_prompt_that_is_always_there_is_no_end() -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<eot>{% endfor %}<|assistant|>"
    assert masker(template).written == ["<eot>"]
