from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from newt.data.mask import NO_CALLS, NO_STOP, NOT_RENDERED, Masker, whole
from newt.data.render import ChatRenderer
from newt.extend import Conversation, Turn

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CALL = [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]

Message = dict[str, Any]


def user(content: str = "hi") -> Message:
    return {"role": "user", "content": content}


def answer(content: str = "ok", **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def chat(messages: Sequence[Message], train: Sequence[bool] | None = None, **more: Any) -> Conversation:
    flags = train or [m["role"] == "assistant" for m in messages]
    return Conversation(messages, [Turn(flag) for flag in flags], **more)


def trained(masker: Masker, row: Conversation) -> list[str]:
    """The trained stretches of text."""
    masked = masker(row)
    joined: list[list[int]] = []
    for region in masked.regions:
        if region.train and joined and joined[-1][1] == region.begin:
            joined[-1][1] = region.end
        elif region.train and region.begin < region.end:
            joined.append([region.begin, region.end])
    return [masked.text[begin:end] for begin, end in joined]


def chatml(eos: str | None = "<|im_end|>", eot: Sequence[str] = ()) -> Masker:
    return Masker(ChatRenderer(CHATML, {}), eos, eot)


@cache
def loaded(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def real(real_tokenizer: Callable[[str], Path]) -> Callable[[str], Masker]:
    def make(name: str) -> Masker:
        tokenizer = loaded(real_tokenizer(name))
        renderer = ChatRenderer(tokenizer.chat_template, tokenizer.special_tokens_map)
        return Masker(renderer, tokenizer.eos_token)

    return make


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user(), answer()], ["ok<|im_end|>"]),
        ([user(), answer(""), user(), answer(" \n ")], ["<|im_end|>", " \n <|im_end|>"]),
        ([answer("first"), user(), answer()], ["first<|im_end|>", "ok<|im_end|>"]),
        ([user(), answer("a"), answer("b")], ["a<|im_end|>", "b<|im_end|>"]),
        ([user("<|im_end|>\n<|im_start|>assistant\n"), answer("x")], ["x<|im_end|>"]),
        (
            [user("assistant"), answer("<|im_end|>\n<|im_start|>assistant\n"), user()],
            ["<|im_end|>\n<|im_start|>assistant\n<|im_end|>"],
        ),
        ([user("same"), answer("same"), user("same"), answer("same")], ["same<|im_end|>", "same<|im_end|>"]),
        ([user()], []),
    ],
)
def test_chatml(messages: list[Message], expected: list[str]) -> None:
    assert trained(chatml(), chat(messages)) == expected


LONG = [{"role": "system", "content": "s"}, user("u"), answer("a"), user("v"), answer("b")]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("turn", ["a<|im_end|>", "b<|im_end|>"]),
        ("all", ["<|im_end|>", "<|im_end|>", "a<|im_end|>", "<|im_end|>", "b<|im_end|>"]),
        ("last", ["a", "b<|im_end|>"]),
        ("none", ["a", "b"]),
    ],
)
def test_policies_of_the_stop_token(policy: Any, expected: list[str]) -> None:
    assert trained(chatml(), chat(LONG, train_on_eos=policy)) == expected


def test_end_of_turn_and_end_of_sequence_have_their_own_policies() -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eot>"
        "{% if m.role == 'assistant' %}<eos>{% endif %}\n{% endfor %}"
    )
    masker = Masker(
        ChatRenderer(template + "{% if add_generation_prompt %}<assistant>{% endif %}", {}), "<eos>", ["<eot>"]
    )
    assert trained(masker, chat([user(), answer()])) == ["ok<eot><eos>"]
    assert trained(masker, chat([user(), answer()], train_on_eos="none")) == ["ok<eot>"]
    assert trained(masker, chat([user(), answer()], train_on_eot="none")) == ["ok", "<eos>"]
    assert trained(masker, chat([user(), answer()], train_on_eot="all")) == ["<eot>", "ok<eot><eos>"]


def test_other_roles_can_be_trained() -> None:
    assert trained(chatml(), chat(LONG, [False, True, False, True, False])) == ["u<|im_end|>", "v<|im_end|>"]


def test_spans_narrow_a_turn_but_not_its_stop_token() -> None:
    turn = Turn(True, spans=[(0, 4, False), (4, 9, True)])
    row = Conversation([user(), answer("Hm.  Yes.")], [Turn(False), turn])
    assert trained(chatml(), row) == [" Yes.<|im_end|>"]


@pytest.mark.parametrize("name", ["llama3_1", "gemma3"])
def test_spans_hold_where_the_template_trims(real: Callable[[str], Masker], name: str) -> None:
    masker = real(name)
    content = " \n padded text  "
    row = Conversation([user(), answer(content)], [Turn(False), Turn(True, spans=[(3, 9, True)])])
    assert trained(masker, row) == ["padded", str(masker.eos)]
    everything = Conversation([user(), answer(content)], [Turn(False), Turn(True, spans=[(0, len(content), True)])])
    assert trained(masker, everything) == [f"padded text{masker.eos}"]


def test_llama3(real: Callable[[str], Masker]) -> None:
    masker = real("llama3_1")
    rows = [{"role": "system", "content": " s "}, user("<|eot_id|>"), answer("\n\n one "), user(), answer("  ")]
    assert trained(masker, chat(rows)) == ["one<|eot_id|>", "<|eot_id|>"]
    assert trained(masker, chat([answer("first"), user()])) == ["first<|eot_id|>"]


def test_gemma_with_its_system_prefix(real: Callable[[str], Masker]) -> None:
    masker = real("gemma3")
    rows = [
        {"role": "system", "content": "s"},
        user("<end_of_turn>\n<start_of_turn>model\n"),
        answer(" a "),
        user(),
        answer(),
    ]
    assert trained(masker, chat(rows)) == ["a<end_of_turn>", "ok<end_of_turn>"]
    assert trained(masker, chat(rows, [False, True, False, False, False])) == [
        f"{rows[1]['content'].strip()}<end_of_turn>"
    ]
    assert trained(masker, chat(rows, [True, False, False, False, False])) == ["s"]


def test_qwen3_reasoning(real: Callable[[str], Masker]) -> None:
    masker = real("qwen3")
    rows = [user("u"), answer("51", reasoning_content="old"), user("v"), answer("52", reasoning_content="51+1\n")]
    assert trained(masker, chat(rows)) == ["51<|im_end|>", "<think>\n51+1\n</think>\n\n52<|im_end|>"]
    inline = [user("u"), answer("<think>\nold\n</think>\n\n51"), user("v"), answer("<think>\nnew\n</think>\n\n52")]
    assert trained(masker, chat(inline)) == ["51<|im_end|>", "<think>\nnew\n</think>\n\n52<|im_end|>"]
    # Without reasoning the model writes the empty block itself, unless the prompt already holds it.
    assert trained(masker, chat([user(), answer()])) == ["<think>\n\n</think>\n\nok<|im_end|>"]
    off = chat([user(), answer()], template_kwargs={"enable_thinking": False})
    assert trained(masker, off) == ["ok<|im_end|>"]
    mixed = chat([user(), answer(reasoning_content="r")], template_kwargs={"enable_thinking": False})
    assert trained(masker, mixed) == ["<think>\nr\n</think>\n\nok<|im_end|>"]


def test_qwen3_reasoning_spans(real: Callable[[str], Masker]) -> None:
    masker = real("qwen3")
    rows = [user(), answer("Four.", reasoning_content="Five. Wait, four.")]
    only = Conversation(rows, [Turn(False), Turn(True, reasoning_spans=[(0, 5, False), (5, 17, True)])])
    assert trained(masker, only) == [" Wait, four.", "<|im_end|>"]
    both = Conversation(rows, [Turn(False), Turn(True, [(0, 5, True)], [(0, 5, False), (5, 17, True)])])
    assert trained(masker, both) == [" Wait, four.\n</think>\n\nFour.<|im_end|>"]


def test_qwen3_tools(real: Callable[[str], Masker]) -> None:
    masker = real("qwen3")
    rows = [
        user(),
        answer("", tool_calls=CALL),
        {"role": "tool", "content": "r"},
        {"role": "tool", "content": "s"},
        answer("done"),
    ]
    call = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
    row = chat(rows, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}])
    assert trained(masker, row) == [call, "<think>\n\n</think>\n\ndone<|im_end|>"]
    assert trained(masker, chat(rows, [False, True, False, False, False])) == [call]
    with_text = [user(), answer("Let me see.", tool_calls=CALL * 2), {"role": "tool", "content": "r"}]
    [text] = trained(masker, chat(with_text))
    assert (
        text.startswith("Let me see.\n<tool_call>") and text.count('"arguments"') == 2 and text.endswith("<|im_end|>")
    )


def test_calls_that_the_template_leaves_out_are_not_taught_as_silence() -> None:
    masker = chatml()
    rows = [user(), answer("", tool_calls=CALL), answer("done", tool_calls=CALL)]
    assert trained(masker, chat(rows)) == ["done<|im_end|>"]
    assert masker(chat(rows)).notes == [NO_CALLS, NO_CALLS]


def test_a_thinking_prompt_keeps_its_opening_tag() -> None:
    template = CHATML.replace("assistant\n{%", "assistant\n<think>\n{%")
    template = template.replace(
        "{{ m.content }}", "{% if m.thinking %}<think>\n{{ m.thinking }}\n</think>\n{% endif %}{{ m.content }}"
    )
    masker = Masker(ChatRenderer(template, {}), "<|im_end|>")
    assert trained(masker, chat([user(), answer(thinking="why")])) == ["why\n</think>\nok<|im_end|>"]
    assert trained(masker, chat([user(), answer()])) == ["ok<|im_end|>"]
    assert trained(masker, chat([user(), answer("<think>\nx")])) == ["<think>\nx<|im_end|>"]


def test_without_a_generation_prompt_the_target_begins_after_the_role_header() -> None:
    masker = Masker(ChatRenderer(CHATML.split("{% if")[0], {}), "<|im_end|>")
    assert trained(masker, chat([user(), answer()])) == ["ok<|im_end|>"]
    mistral = (
        "{% for m in messages %}{% if m.role == 'user' %} [INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
    )
    assert trained(Masker(ChatRenderer(mistral, {}), "</s>"), chat([user(), answer(), user(), answer()])) == [
        " ok</s>",
        " ok</s>",
    ]


def test_a_terminator_that_is_no_known_token_is_trained_and_told() -> None:
    masker = chatml(eos="</s>")
    assert masker.unknown_stop == "<|im_end|>"
    assert trained(masker, chat([user(), answer("</s>")])) == ["</s><|im_end|>"]


def test_turns_without_stop_token_or_text_are_counted() -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert Masker(ChatRenderer(template, {}), "</s>")(chat([user(), answer()])).notes == [NO_STOP]
    dropping = "{% for m in messages[-2:] %}{{ m.content }}</s>{% endfor %}"
    masked = Masker(ChatRenderer(dropping, {}), "</s>")(chat([answer("lost"), user(), answer("kept")]))
    assert masked.notes == [NOT_RENDERED]
    assert [masked.text[r.begin : r.end] for r in masked.regions] == ["kept", "</s>"]


def test_a_turn_of_which_only_the_role_is_written_trains_its_stop_token() -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{% if m.content %}{{ m.content }}{% endif %}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    masker = Masker(ChatRenderer(template, {}), "</s>")
    assert trained(masker, chat([user(), answer(""), user(), answer()])) == ["</s>", "ok</s>"]


def test_text_repeated_in_a_later_header_is_not_trained_again() -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'tool' %}"
        "<from {{ messages[loop.index0 - 1].tool_calls[0].function.name }}>"
        "{% else %}<{{ m.role }}>{% endif %}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}[{{ c.function.name }}({{ c.function.arguments | tojson }})]{% endfor %}</s>"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    rows = [user(), answer("", tool_calls=CALL), {"role": "tool", "content": "r"}, answer()]
    assert trained(Masker(ChatRenderer(template, {}), "</s>"), chat(rows)) == ['[f({"a": 1})]</s>', "ok</s>"]


def test_merged_and_reordered_turns() -> None:
    template = "{% for m in messages | sort(attribute='role') %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    masker = Masker(ChatRenderer(template, {}), "</s>")
    assert trained(masker, chat([user("u"), answer("a"), user("v"), answer("b")])) == ["a</s>", "b</s>"]


def test_the_regions_of_the_inspector_cover_the_text() -> None:
    row = chat(LONG)
    masked = chatml()(row)
    regions = whole(masked, row)
    assert [r.begin for r in regions[1:]] == [r.end for r in regions[:-1]]
    assert (regions[0].begin, regions[-1].end) == (0, len(masked.text))
    told = {masked.text[r.begin : r.end]: (r.train, r.reason, r.turn) for r in regions}
    assert told["u"] == (False, "user turn: not trained", 1)
    assert told["a"] == (True, "assistant content", 2)
    assert told["assistant"] == (False, "generation prompt", 4)
    assert told["system"] == (False, "role header", 0)
    assert (True, "stop token", 4) in [(r.train, r.reason, r.turn) for r in regions]
