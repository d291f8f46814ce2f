"""Every built-in chat template: ids as the library makes them, what is trained, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.render import ChatRenderer
from newt.data.template import built_in, template_names
from newt.data.tokenize import IGNORED, RowTokenizer
from newt.extend import Conversation, Policy, Turn
from newt.formats.chat_template import ChatTemplate
from newt.support.errors import DataError

SPECIAL = re.compile(
    r"<\|\"?[a-zA-Z_]*\"?\|>|<\|?(?:turn|tool|tool_call|tool_response|channel)\|?>|<｜[^｜]+｜>|\[\|[a-z]+\|\]|\[/?[A-Z_]+\]|<end_of_turn>"
)
WORDS = {"bos_token": "<s>", "eos_token": "</s>"}


def say(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


PLAIN = [say("user", "Hi"), say("assistant", "One."), say("user", "assistant"), say("assistant", "Two\nthree")]
TOOLS = [{"type": "function", "function": {"name": "tide", "description": "d", "parameters": {"type": "object"}}}]
CALL = {"id": "call00001", "type": "function", "function": {"name": "tide", "arguments": {"port": "Brest", "hour": 6}}}
CALLED = [
    say("user", "q"),
    say("assistant", "", tool_calls=[CALL]),
    say("tool", "4.2", name="tide", tool_call_id="call00001"),
    say("assistant", "It is 4.2."),
]
REASONED = [say("user", "q"), say("assistant", "A", reasoning_content="R")]

SAME = {
    **dict.fromkeys(("chatml", "falcon_h1", "nemotron_h", "qwen_25", "qwen2_vl", "phi_4"), "<|im_end|>"),
    **dict.fromkeys(("llama3", "llama3_2_vision"), "<|eot_id|>"),
    **dict.fromkeys(("gemma", "gemma3", "gemma3n"), "<end_of_turn>"),
    **dict.fromkeys(("cohere", "aya"), "<|END_OF_TURN_TOKEN|>"),
    **dict.fromkeys(("phi_3", "phi_35"), "<|end|>"),
    **dict.fromkeys(("exaone", "exaone4"), "[|endofturn|]"),
    **dict.fromkeys(("gemma4", "gemma4_unified"), "<turn|>"),
    **dict.fromkeys(("alpaca", "mistral_v3_tekken", "mistral_v7_tekken", "pixtral", "deepseek_v2"), "</s>"),
    "llama4": "<|eot|>",
    "deepseek_v3": "<｜end▁of▁sentence｜>",
}
"""Templates in which an answer is trained as its text and this stop token."""
RESPONSE = "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"
OTHER = {
    "mistral_v1": [" One.</s>", " Two\nthree</s>"],
    "mistral_v2v3": [" One.</s>", " Two\nthree</s>"],
    "jamba": [" One.<|eom|>", " Two\nthree<|eom|>"],
    "qwen3": ["One.<|im_end|>", "<think>\n\n</think>\n\nTwo\nthree<|im_end|>"],
    "qwen3_5": ["One.<|im_end|>", "\n</think>\n\nTwo\nthree<|im_end|>"],
    "metharme": ["One.", "Two\nthree</s>"],
    "llava": [" One.", " Two\nthree"],
    "command_a": [f"One.{RESPONSE}", f"Two\nthree{RESPONSE}"],
    "command_a_tool_use": [f"<|START_RESPONSE|>One.{RESPONSE}", f"<|START_RESPONSE|>Two\nthree{RESPONSE}"],
    "command_a_rag": [f"<|START_RESPONSE|>One.{RESPONSE}", f"<|START_RESPONSE|>Two\nthree{RESPONSE}"],
}
CALLS = {
    "mistral_v2v3": '[TOOL_CALLS] [{"name": "tide", "arguments": {"port": "Brest", "hour": 6}, "id": "call00001"}]</s>',
    **dict.fromkeys(
        ("mistral_v3_tekken", "mistral_v7_tekken"),
        '[TOOL_CALLS][{"name": "tide", "arguments": {"port": "Brest", "hour": 6}, "id": "call00001"}]</s>',
    ),
    "jamba": ' <tool_calls>[\n    {"name": "tide", "arguments": {"port": "Brest", "hour": 6}}\n]</tool_calls><|eom|>',
    "llama3_2_vision": '{"name": "tide", "parameters": {"port": "Brest", "hour": 6}}<|eot_id|>',
    "llama4": '<|python_start|><|python_end|>{"name": "tide", "parameters": {"port": "Brest", "hour": 6}}<|eot|>',
    "qwen_25": '<tool_call>\n{"name": "tide", "arguments": {"port": "Brest", "hour": 6}}\n</tool_call><|im_end|>',
    "qwen3": '<tool_call>\n{"name": "tide", "arguments": {"port": "Brest", "hour": 6}}\n</tool_call><|im_end|>',
    "qwen3_5": "\n</think>\n\n<tool_call>\n<function=tide>\n<parameter=port>\nBrest\n</parameter>\n"
    "<parameter=hour>\n6\n</parameter>\n</function>\n</tool_call><|im_end|>",
    "exaone4": '<tool_call>{"name": "tide", "arguments": {"port": "Brest", "hour": 6}}</tool_call>[|endofturn|]',
    "deepseek_v3": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>tide\n```json\n"
    '{"port": "Brest", "hour": 6}'
    "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
    "command_a_tool_use": "<|START_THINKING|><|END_THINKING|><|START_ACTION|>[\n"
    '    {"tool_call_id": "0", "tool_name": "tide", "parameters": {"port": "Brest", "hour": 6}}\n'
    "]<|END_ACTION|><|END_OF_TURN_TOKEN|>",
    "gemma4": '<|tool_call>call:tide{hour:6,port:<|"|>Brest<|"|>}<tool_call|><|tool_response>',
}
"""What is trained of a turn with a tool call."""
NO_LIST = {"command_a_rag": CALLS["command_a_tool_use"], "deepseek_v3": CALLS["deepseek_v3"]}
"""Templates with a place for tool calls, but none for a list of tools."""
REASONING = {
    "qwen3": "<think>\nR\n</think>\n\nA<|im_end|>",
    "qwen3_5": "R\n</think>\n\nA<|im_end|>",
    "exaone4": "<think>\nR\n</think>\n\nA[|endofturn|]",
    "deepseek_v3": "<think>\nR\n</think>\n\nA<｜end▁of▁sentence｜>",
    "gemma4": "<|channel>thought\nR\n<channel|>A<turn|>",
    "command_a_tool_use": f"<|START_THINKING|>R<|END_THINKING|><|START_RESPONSE|>A{RESPONSE}",
}
SYSTEMLESS = {"gemma"}
ENDLESS = {"llava"}
"""Templates that end no answer."""


def tokenizer(folder: Path, name: str, eos: str = "</s>", bos: str | None = "<s>") -> Any:
    """The small tokenizer with the special tokens of a template."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(folder)
    found = sorted({*SPECIAL.findall(built_in(name)), eos, *([bos] if bos else [])})
    if name.startswith("phi_3"):
        found += ["<|system|>", "<|user|>", "<|assistant|>"]
    if name.startswith("exaone"):
        found += ["[|system|]", "[|user|]", "[|assistant|]", "[|tool|]"]
    loaded.add_special_tokens({"additional_special_tokens": found})
    loaded.eos_token, loaded.bos_token = eos, bos
    loaded.chat_template = built_in(name)
    return loaded


def row_tokenizer(loaded: Any) -> RowTokenizer:
    cfg = Config({Data: Data(), Template: Template()})
    return RowTokenizer(loaded, cfg, ChatTemplate(ChatTemplate.Settings(path="x", type="chat_template"), cfg), 2048)


def row(
    messages: list[dict[str, Any]], tools: Any = None, train: str = "assistant", ends: Policy = "turn"
) -> Conversation:
    turns = [Turn(message["role"] == train) for message in messages]
    return Conversation(messages, turns, tools, train_on_eos=ends, train_on_eot=ends)


def trained(rows: RowTokenizer, conversation: Conversation) -> list[str]:
    """Encode, compare the ids with the library's, and return the trained stretches of text."""
    [encoded] = rows.encode(conversation)
    theirs = rows.tokenizer.apply_chat_template(
        [dict(message) for message in conversation.messages], tools=conversation.tools, return_dict=False
    )
    assert encoded.input_ids.tolist() == theirs
    stretches: list[list[int]] = [[]]
    for id_, label in zip(encoded.input_ids.tolist(), encoded.labels.tolist(), strict=True):
        if label != IGNORED:
            stretches[-1].append(id_)
        elif stretches[-1]:
            stretches.append([])
    return [rows.tokenizer.decode(ids) for ids in stretches if ids]


def expected(name: str) -> list[str]:
    return OTHER[name] if name in OTHER else [f"One.{SAME[name]}", f"Two\nthree{SAME[name]}"]


@pytest.mark.parametrize("name", template_names())
def test_ids_are_those_of_the_library_and_answers_with_their_stop_tokens_are_trained(
    tokenizer_dir: Path, name: str
) -> None:
    rows = row_tokenizer(tokenizer(tokenizer_dir, name))
    if name in ENDLESS:
        with pytest.raises(DataError, match="writes no stop token behind the last answer"):
            rows.encode(row(PLAIN))
        assert trained(rows, row(PLAIN, ends="none")) == expected(name)
        return
    assert trained(rows, row(PLAIN)) == expected(name)
    if name not in SYSTEMLESS:
        assert trained(rows, row([say("system", "Be terse."), *PLAIN])) == expected(name)
    assert trained(rows, row(PLAIN, train="nobody")) == []
    without = row_tokenizer(tokenizer(tokenizer_dir, name, bos=None))
    assert trained(without, row(PLAIN)) == expected(name)


@pytest.mark.parametrize("name", CALLS)
def test_tool_calls_are_trained_with_their_scaffolding(tokenizer_dir: Path, name: str) -> None:
    rows = row_tokenizer(tokenizer(tokenizer_dir, name))
    call, answer = trained(rows, row(CALLED, None if name in NO_LIST else TOOLS))
    assert call == CALLS[name]
    assert "It is 4.2." in answer and "Brest" not in answer


@pytest.mark.parametrize("name", REASONING)
def test_reasoning_is_trained(tokenizer_dir: Path, name: str) -> None:
    assert trained(row_tokenizer(tokenizer(tokenizer_dir, name)), row(REASONED)) == [REASONING[name]]


def render(name: str, messages: list[dict[str, Any]], **more: Any) -> str:
    return ChatRenderer(built_in(name), WORDS).render(messages, **more)[0]


@pytest.mark.parametrize("name", template_names())
def test_what_has_no_place_is_refused(name: str) -> None:
    takes_calls = name in {*CALLS, *NO_LIST, "gemma4_unified"}
    takes_list = takes_calls and name not in NO_LIST
    if not takes_list:
        with pytest.raises(DataError, match="no place for tools"):
            render(name, PLAIN, tools=TOOLS)
    if not takes_calls:
        with pytest.raises(DataError, match=r"no place for the (tool calls of message 1|role tool)"):
            render(name, CALLED)
    if name not in {*REASONING, *NO_LIST, "gemma4_unified"}:
        with pytest.raises(DataError, match="no place for the reasoning of message 1"):
            render(name, REASONED)
    if name not in ("chatml", "llama3"):  # their headers hold any role
        with pytest.raises(DataError, match="no place for the role narrator, only for "):
            render(name, [say("narrator", "x"), *PLAIN])


@pytest.mark.parametrize("name", template_names())
def test_a_content_in_parts_is_its_text(name: str) -> None:
    def parts(text: str) -> list[Any]:
        return [
            {"type": "text", "text": text[:1]},
            {"type": "unknown"},
            {"content": text[1:2]},
            {"value": text[2:]},
            "",
        ]

    messages = PLAIN if name in SYSTEMLESS else [say("system", "Be terse."), *PLAIN]
    split = [say(message["role"], parts(message["content"])) for message in messages]
    assert render(name, split) == render(name, messages)


@pytest.mark.parametrize("name", sorted(set(template_names()) - SYSTEMLESS))
def test_the_system_prompt_is_never_dropped(name: str) -> None:
    for turns in ([], PLAIN[:1], PLAIN[:2], PLAIN[:3], PLAIN):
        try:
            assert "Be terse." in render(name, [say("system", "Be terse."), *turns], add_generation_prompt=True)
        except DataError as error:
            assert "and there is none" in str(error) and not turns


IMAGES = {
    "gemma3": "<start_of_image>",
    "gemma3n": "<image_soft_token>",
    "gemma4": "<|image|>",
    "llama3_2_vision": "<|image|>",
    "llama4": "<|image|>",
    "llava": "<image>\n",
    "mistral_v7_tekken": "[IMG]",
    "pixtral": "[IMG]",
    "qwen2_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen3_5": "<|vision_start|><|image_pad|><|vision_end|>",
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_have_their_placeholder(name: str) -> None:
    content = [{"type": "image"}, {"type": "text", "text": "What?"}]
    assert f"{IMAGES[name]}What?" in render(name, [say("user", content), PLAIN[1]])


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        *(("qwen3", name) for name in ("chatml", "qwen_25", "qwen3", "qwen3_5", "qwen2_vl", "falcon_h1", "nemotron_h")),
        ("llama3_1", "llama3"),
        ("llama3_1", "llama3_2_vision"),
        *(("gemma3", name) for name in ("gemma", "gemma3", "gemma3n")),
        *(("llama2", name) for name in ("alpaca", "pixtral", "mistral_v3_tekken", "deepseek_v2")),
    ],
)
def test_real_tokenizers(real_tokenizer: Callable[[str], Path], folder: str, name: str) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(real_tokenizer(folder))
    loaded.chat_template = built_in(name)
    texts = [text.replace("</s>", loaded.eos_token) for text in expected(name)]
    if name == "qwen3_5":
        texts[1] = texts[1].lstrip("\n")  # a token of two line breaks crosses the end of the prompt
    assert trained(row_tokenizer(loaded), row(PLAIN)) == texts
