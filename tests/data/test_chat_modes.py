"""What is trained of a conversation, for every policy and the templates of the large families, written out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.data.tokenize import IGNORED, RowTokenizer
from newt.formats.chat_template import ChatTemplate, ChatTemplateDataset

Find = Callable[[str], Path]
# template -> tokenizer, stop token, whether questions end with it too
TEMPLATES = {
    "chatml": ("qwen3", "<|im_end|>", True),
    "qwen_25": ("qwen3", "<|im_end|>", True),
    "llama3": ("llama3_1", "<|eot_id|>", True),
    "gemma3": ("gemma3", "<end_of_turn>", True),
    "mistral_v7_tekken": ("llama2", "</s>", False),
    "mistral_v3_tekken": ("llama2", "</s>", False),
}
TALK = [
    {"role": "user", "content": "q1"},
    {"role": "assistant", "content": "a1"},
    {"role": "user", "content": "q2"},
    {"role": "assistant", "content": "a2"},
]


@cache
def loaded(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def trained(find: Find, template: str, messages: list[dict[str, Any]], **keys: Any) -> str:
    """The trained text without blanks; ``top`` are keys of the config, the others of the dataset entry."""
    name = TEMPLATES.get(template, (template,))[0]
    tokenizer = loaded(find(name))
    top = keys.pop("top", {})
    chosen = {"chat_template": template} if template in TEMPLATES else {}
    cfg = Config({Data: Data(**top), Template: Template(**chosen)})
    fmt = ChatTemplate(ChatTemplateDataset(path="x", type="chat_template", **keys), cfg)
    row = {"messages": messages, "tools": keys.get("tools")}
    (made,) = RowTokenizer(tokenizer, cfg, fmt, 4096).encode(fmt(row))
    text: str = tokenizer.decode([int(i) for i, label in zip(*made, strict=True) if label != IGNORED])
    return text.replace(" ", "")


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "a1|a2|"),
        ({"train_on_eos": "turn"}, "a1|a2|"),
        ({"train_on_eos": "none"}, "a1a2"),
        ({"train_on_eos": "last"}, "a1a2|"),
        ({"train_on_eos": "all"}, "?a1|?a2|"),
        ({"roles_to_train": ("user",)}, "q1?q2?"),
        ({"roles_to_train": ("user", "assistant"), "train_on_eos": "none"}, "q1a1q2a2"),
        ({"top": {"train_on_inputs": True}}, "q1?a1|q2?a2|"),
        ({"top": {"train_on_inputs": True}, "train_on_eos": "last"}, "q1a1q2a2|"),
    ],
)
def test_every_policy(real_tokenizer: Find, template: str, keys: dict[str, Any], expected: str) -> None:
    _, stop, asks_end_so = TEMPLATES[template]
    ends = {"|": stop, "?": stop if asks_end_so else ""}
    assert trained(real_tokenizer, template, TALK, **keys) == "".join(ends.get(letter, letter) for letter in expected)


@pytest.mark.parametrize("template", TEMPLATES)
def test_flags_of_turns_and_parts(real_tokenizer: Find, template: str) -> None:
    stop = TEMPLATES[template][1]
    talk = [dict(message) for message in TALK]
    talk[1]["train"], talk[2]["train"] = False, True
    wanted = f"q2{stop if TEMPLATES[template][2] else ''}a2{stop}"
    assert trained(real_tokenizer, template, talk, message_field_training="train") == wanted
    talk[3]["content"] = [
        {"type": "text", "text": "Let me think.", "train": False},
        {"type": "text", "text": "\nThe answer is 4.", "train": True},
    ]
    assert trained(real_tokenizer, template, talk[:2] + talk[2:], roles_to_train=()).strip() == f"Theansweris4.{stop}"
    talk[3]["content"][1]["train"] = False
    assert trained(real_tokenizer, template, talk, roles_to_train=()) == ""
    detail = [{"begin_offset": 6, "end_offset": 10, "train": True}]
    talk[3] = {"role": "assistant", "content": "  one, two, three  ", "detail": detail}
    keys = {"message_field_training_detail": "detail", "roles_to_train": (), "train_on_eos": "none"}
    assert trained(real_tokenizer, template, talk, **keys) == "two,"


def test_reasoning_parts_and_calls(real_tokenizer: Find) -> None:
    talk: list[dict[str, Any]] = [
        {"role": "user", "content": "2+2?"},
        {
            "role": "assistant",
            "reasoning_content": [
                {"type": "text", "text": "Hmm maybe 2+2=5.", "train": False},
                {"type": "text", "text": " Wait no, 2+2=4.", "train": True},
            ],
            "content": "4",
        },
    ]
    assert trained(real_tokenizer, "qwen3", talk) == "Waitno,2+2=4<|im_end|>", "'.\\n' is one token"
    talk[1] = {"role": "assistant", "thought": "Hm.", "content": "4"}
    assert trained(real_tokenizer, "qwen3", talk, field_thinking="thought") == "<think>\nHm.\n</think>\n\n4<|im_end|>"
    talk[1] = {"role": "assistant", "content": "<reasoning> Hm. </reasoning>\n4"}
    assert trained(real_tokenizer, "qwen3", talk, split_thinking=True) == "<think>\nHm.\n</think>\n\n4<|im_end|>"
    function = {"name": "add", "arguments": '{"a": 2}'}
    talk[1] = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": function}]}
    talk += [{"role": "tool", "content": "4"}, {"role": "assistant", "content": "4."}]
    calls = '<tool_call>\n{"name":"add","arguments":{"a":2}}\n</tool_call><|im_end|>'
    assert trained(real_tokenizer, "qwen3", talk) == f"{calls}<think>\n\n</think>\n\n4.<|im_end|>"
