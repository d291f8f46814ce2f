from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.helpers import make_config

from newt.config.core import Data, Template
from newt.config.section import Config
from newt.extend import Conversation, Turn
from newt.formats.chat_template import ChatTemplate, ChatTemplateDataset
from newt.support.errors import DataError


def make(train_on_inputs: bool = False, **keys: Any) -> ChatTemplate:
    cfg = Config({Data: Data(train_on_inputs=train_on_inputs), Template: Template(chat_template_kwargs={"k": 1})})
    return ChatTemplate(ChatTemplateDataset(path="x", type="chat_template", **keys), cfg)


def chat(*contents: Any, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)], **more}


def trained(row: Conversation) -> list[bool]:
    return [turn.train for turn in row.turns]


def test_a_plain_row() -> None:
    row = make()(chat("q", "a"))
    assert list(row.messages) == chat("q", "a")["messages"]
    assert list(row.turns) == [Turn(False), Turn(True)]
    assert (row.tools, row.train_on_eos, row.train_on_eot, row.template_kwargs) == (None, "turn", "turn", {"k": 1})
    assert make().columns() == ("messages",)


def test_other_names_and_json_text() -> None:
    fmt = make(field_messages="conversations", message_property_mappings={"role": "from", "content": "value"})
    said = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", "extra": 1}]
    expected = [{"role": "user", "content": "q"}, {"extra": 1, "role": "assistant", "content": "a"}]
    assert list(fmt({"conversations": said}).messages) == expected
    assert list(fmt({"conversations": json.dumps(said)}).messages) == expected
    old = make(field_messages="c", message_field_role="from", message_field_content="value")
    assert list(old({"c": said}).messages) == expected
    assert fmt.columns() == ("conversations",)


def test_roles() -> None:
    fmt = make(roles={"assistant": ("bot",), "user": ("customer",)}, roles_to_train=("bot", "tool"))
    said = [{"role": r, "content": "x"} for r in ("customer", "bot", "tool", "gpt", "other")]
    row = fmt({"messages": said})
    assert [m["role"] for m in row.messages] == ["user", "assistant", "tool", "gpt", "other"]
    assert trained(row) == [False, True, True, False, False]
    assert trained(make(train_on_inputs=True)(chat("q", "a"))) == [True, True]
    assert trained(make(roles_to_train=())(chat("q", "a"))) == [False, False]


def test_null_entries_vanish_and_calls_get_a_content() -> None:
    call = {"id": None, "function": {"name": "f", "arguments": '{"a": 1, "b": null}'}}
    row = make()(
        {
            "messages": [
                {"role": "user", "content": "q", "name": None},
                {"role": "assistant", "content": None, "tool_calls": [call]},
            ]
        }
    )
    assert row.messages[0] == {"role": "user", "content": "q"}
    assert row.messages[1]["content"] == ""
    assert row.messages[1]["tool_calls"] == [{"function": {"name": "f", "arguments": {"a": 1}}}]


def test_tools() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": '{"type": "object"}'}}
    parsed = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert make()(chat("q", "a", tools=[tool])).tools == [parsed]
    assert make(field_tools="functions")(chat("q", "a", functions=json.dumps([tool]))).tools == [parsed]
    assert make()(chat("q", "a", tools=[])).tools is None


def test_system_messages() -> None:
    roles = [m["role"] for m in make()(chat("q", "a", system="s")).messages]
    assert roles == ["system", "user", "assistant"]
    with_system = {"messages": [{"role": "system", "content": "own"}, *chat("q", "a")["messages"]], "system": "column"}
    assert make()(with_system).messages[0]["content"] == "own"
    assert [m["role"] for m in make(drop_system_message=True)(with_system).messages] == ["user", "assistant"]
    assert make(field_system="sys")(chat("q", "a", sys="s")).messages[0]["content"] == "s"
    assert len(make()(chat("q", "a", system="")).messages) == 2


def test_message_flags_win() -> None:
    fmt = make(message_field_training="train")
    row = chat("q", "a", "r", "b")
    row["messages"][0]["train"], row["messages"][1]["train"] = True, False
    formatted = fmt(row)
    assert trained(formatted) == [True, False, False, True]
    assert "train" not in formatted.messages[0]


def test_details_become_spans() -> None:
    fmt = make(message_field_training_detail="detail")
    row = chat("q", "Alpha beta")
    row["messages"][1]["detail"] = [
        {"begin_offset": 6, "end_offset": 9, "train": True},
        {"begin_offset": 0, "end_offset": 4, "train": False},
    ]
    assert fmt(row).turns[1] == Turn(True, ((0, 5, False), (6, 10, True)))
    row["messages"][0]["detail"] = [{"begin_offset": 0, "end_offset": 0, "train": True}]
    assert fmt(row).turns[0] == Turn(True, ((0, 1, True),))


def test_parts_become_one_text_and_spans() -> None:
    parts = [
        {"type": "text", "text": "Let me think.", "train": False},
        {"content": " The answer", "weight": 1},
        " is 4.",
    ]
    row = make()(chat([{"type": "text", "text": "q"}], parts))
    assert [m["content"] for m in row.messages] == ["q", "Let me think. The answer is 4."]
    assert list(row.turns) == [Turn(False), Turn(True, ((0, 13, False), (13, 24, True), (24, 30, True)))]
    off = make()(chat("q", [{"text": "a", "train": False}, {"text": "b", "weight": 0.0}]))
    assert off.turns[1].train is False


def test_parts_that_are_no_text_need_a_model_that_reads_them() -> None:
    row = chat([{"type": "image"}, {"type": "text", "text": "q"}], "a")
    with pytest.raises(DataError, match=r"message 0 \(user\) holds a part of the type image, .* Leave the part out"):
        make()(row)
    cfg = make_config(processor_type="AutoProcessor")
    entry = ChatTemplateDataset(path="x", type="chat_template")
    assert ChatTemplate(entry, cfg)(row).messages[0]["content"] == row["messages"][0]["content"]


def test_parts_of_a_system_turn_are_joined() -> None:
    said = [{"role": "system", "content": [{"type": "text", "text": "Be "}, "brief", {"value": "."}]}]
    row = make()({"messages": [*said, *chat("q", "a")["messages"]]})
    assert row.messages[0]["content"] == "Be brief."


def test_the_weight_of_a_message() -> None:
    row = chat("q", "a", "r", "b")
    row["messages"][1]["weight"], row["messages"][3]["weight"] = 0, 1.0
    made = make()(row)
    assert trained(made) == [False, False, False, True] and "weight" not in made.messages[1]
    row["messages"][1]["train"] = True
    assert trained(make(message_field_training="train")(row)) == [False, False, False, True]
    row["messages"][1]["weight"] = 0.5
    with pytest.raises(DataError, match=r"message 1 \(assistant\): weight must be 0 or 1, it is 0.5"):
        make()(row)
    named = make(message_property_mappings={"load": "weight"})(row)
    assert named.messages[1]["load"] == 0.5 and trained(named) == [False, True, False, True]


def test_a_part_that_ends_in_a_blank_is_told(caplog: pytest.LogCaptureFixture) -> None:
    make()(chat("q", [{"text": "think ", "train": False}, {"text": "answer", "train": True}]))
    assert "content part 0 ends with a blank" in caplog.text


def test_reasoning() -> None:
    fmt = make(field_thinking="thoughts", template_thinking_key="reasoning")
    row = chat("q", "a")
    row["messages"][1]["thoughts"] = [{"text": "Hmm.", "train": False}, {"text": " So.", "train": True}]
    formatted = fmt(row)
    assert formatted.messages[1] == {"role": "assistant", "content": "a", "reasoning": "Hmm. So."}
    assert formatted.turns[1] == Turn(True, (), ((0, 4, False), (4, 8, True)))
    assert formatted.reasoning_key == "reasoning"


@pytest.mark.parametrize(
    ("content", "thinking", "answer"),
    [
        ("<think>\n17*3\n</think>\n\n51", "17*3", "51"),
        ("<reasoning>r</reasoning> a", "r", "a"),
        ("<|begin_of_thought|>t<|end_of_thought|>\n<|begin_of_solution|>720<|end_of_solution|>", "t", "720"),
        ("<think>\n\n</think>\n\nhi", "", "hi"),
        ("before <think>r</think> a", None, "before <think>r</think> a"),
        ("<think>unclosed", None, "<think>unclosed"),
    ],
)
def test_thinking_is_split_off(content: str, thinking: str | None, answer: str) -> None:
    message = make(split_thinking=True)(chat("<think>q</think>", content)).messages[1]
    assert (message.get("reasoning_content"), message["content"]) == (thinking, answer)
    assert make(split_thinking=True)(chat("<think>q</think>", content)).messages[0]["content"] == "<think>q</think>"


@pytest.mark.parametrize(
    ("keys", "row", "error"),
    [
        ({}, {"conversations": [], "id": 1}, "messages is missing; the row has: conversations, id"),
        ({}, {"messages": []}, "messages is empty"),
        ({}, {"messages": "not json"}, "messages is a string but not JSON"),
        ({}, {"messages": {"role": "user"}}, "messages must be a list, it is an object"),
        ({}, {"messages": ["hi"]}, r"messages\[0\] must be an object, it is a text"),
        (
            {},
            {"messages": [{"from": "human", "value": "x"}]},
            "message 0 has no 'role'; it has: from, value. Set message_property_mappings: {role: from, content: value}",
        ),
        ({}, {"messages": [{"role": "user"}]}, r"message 0 \(user\) has no 'content'"),
        ({}, chat("q", 5), r"message 1 \(assistant\): content must be a text, it is 5"),
        ({}, chat("q", [{"text": "a", "weight": 0.5}]), r"message 1 \(assistant\): weight .* must be 0 or 1"),
        (
            {},
            chat("q", "a", tools=[{"function": {"name": "f", "parameters": "{"}}]),
            "parameters of the tool f are not JSON",
        ),
        (
            {},
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{x}"}}]}]},
            r"message 0 \(assistant\): the arguments of the tool call f are not JSON",
        ),
        (
            {"drop_system_message": True},
            {"messages": [{"role": "system", "content": "s"}]},
            "nothing but a system message",
        ),
        (
            {"message_field_training": "train"},
            {"messages": [{"role": "user", "content": "x", "train": "yes"}]},
            "train must be true or false, it is 'yes'",
        ),
        (
            {"message_field_training_detail": "d"},
            {
                "messages": [
                    {"role": "user", "content": "x", "d": [{"begin_offset": 0, "end_offset": 9, "train": True}]}
                ]
            },
            r"training detail 0\.\.9 is outside of the content",
        ),
        (
            {"message_field_training_detail": "d"},
            {"messages": [{"role": "user", "content": "x", "d": [{"begin_offset": 0}]}]},
            "needs begin_offset, end_offset and train",
        ),
    ],
)
def test_rows_that_do_not_fit(keys: dict[str, Any], row: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=error):
        make(**keys)(row)


def test_formats_load_without_heavy_libraries() -> None:
    code = (
        "import sys, newt.formats.chat_template, newt.formats.alpaca, newt.formats.completion, newt.data.template;"
        "print({'torch', 'transformers', 'numpy', 'jinja2'} & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )
