"""Every built-in chat template with every real tokenizer, on conversations that are made up."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.test_built_in import CALL, CALLS, NO_LIST, REASONING, SYSTEMLESS, TOOLS, say

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.template import built_in, template_names
from newt.data.texts import text_encoder
from newt.data.tokenize import IGNORED, RowTokenizer
from newt.extend import Conversation, Turn
from newt.formats.chat_template import ChatTemplate
from newt.support.errors import DataError

TOKENIZERS = ("qwen3", "llama3_1", "llama2", "gemma3")
FAST = ("qwen3", "llama3_1", "gemma3")
"""Vocabularies that the faster library reads."""
PIECES = [
    "", " ", "\n", "\n\n", "  \t", "user", "assistant", "Hi", "Hi", "é", "e\u0301", "🦑", "日本語", "'s", "1234567",
    "<|im_end|>", "<|im_start|>assistant\n", "<|eot_id|>", "</s>", "<s>", "<end_of_turn>", "<think>", "</think>",
    "[INST]", "[/INST]", "<|end|>", "### Response:", "{{ x }}", "{% if %}", "\r\n", "\u200b", "<|im_end",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=5)
FEW = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@cache
def loaded(folder: Path, fast: bool) -> Any:
    """One for each library: a tokenizer that has changed to the faster one stays with it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = text_encoder(tokenizer)
    encoder.speed_up(["Hello there."]) if fast else encoder.keep_standard()
    assert encoder.is_fast == fast
    return tokenizer


def content(draw: st.DrawFn, mark: str) -> str:
    """Text with a word in it that no other turn has, or nothing at all."""
    before, after = "".join(draw(TEXT)), "".join(draw(TEXT))
    return f"{before} {mark} {after}" if draw(st.integers(0, 5)) else ""


@st.composite
def conversations(draw: st.DrawFn, template: str) -> Conversation:
    """Turns that the template has a place for."""
    reasons, calls = template in REASONING, template in CALLS and template not in NO_LIST
    messages = []
    if template not in SYSTEMLESS and draw(st.booleans()):
        messages.append(say("system", content(draw, "system0word")))
    called = False
    for number in range(draw(st.integers(1, 3))):
        messages.append(say("user", content(draw, f"user{number}word")))
        if calls and draw(st.booleans()):
            called = True
            messages.append(say("assistant", "", tool_calls=[CALL]))
            messages.append(say("tool", content(draw, f"tool{number}word"), name="tide", tool_call_id="call00001"))
        answer = say("assistant", content(draw, f"answer{number}word"))
        if reasons and draw(st.booleans()):
            answer["reasoning_content"] = content(draw, f"reason{number}word")
        messages.append(answer)
    turns = [Turn(message["role"] == "assistant") for message in messages]
    tools = TOOLS if called else None
    return Conversation(messages, turns, tools, train_on_eos="none", train_on_eot="none")


def check_rows(folder: Path, template: str, *, fast: bool) -> None:
    tokenizer = loaded(folder, fast)
    tokenizer.chat_template = built_in(template)
    cfg = Config({Data: Data(), Template: Template()})
    rows = RowTokenizer(tokenizer, cfg, ChatTemplate(ChatTemplate.Settings(path="x", type="chat_template"), cfg), 4096)
    compared: list[Conversation] = []

    @FEW
    @given(conversations(template))
    def check(row: Conversation) -> None:
        try:
            [found] = rows.encode(row)
        except DataError as error:
            assert "message" in str(error) or "turn" in str(error), error
            return
        theirs = tokenizer.apply_chat_template(
            [dict(message) for message in row.messages],
            tools=row.tools,
            tokenize=True,
            return_dict=False,
        )
        assert found.input_ids.tolist() == theirs
        compared.append(row)
        trained = tokenizer.decode([label for label in found.labels.tolist() if label != IGNORED])
        whole = tokenizer.decode(theirs)
        for message in row.messages:
            for key in ("content", "reasoning_content"):
                words = [word for word in str(message.get(key, "")).split() if word.endswith("word")]
                for word in words:
                    assert (word in trained) == (message["role"] == "assistant" and word in whole), (word, trained)

    check()
    assert compared, "every conversation was refused"


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("template", template_names())
def test_ids_and_targets(real_tokenizer: Callable[[str], Path], template: str, name: str) -> None:
    check_rows(real_tokenizer(name), template, fast=False)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("template", ("chatml", "llama3", "gemma3", "qwen3", "mistral_v7_tekken", "alpaca"))
def test_with_the_faster_library(real_tokenizer: Callable[[str], Path], template: str, name: str) -> None:
    pytest.importorskip("fastokens")
    check_rows(real_tokenizer(name), template, fast=True)
