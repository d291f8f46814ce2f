"""Single instructions: the exact prompt of each type, and what of it is trained."""

from __future__ import annotations

import copy

import pytest
from tests.formats.seen import byte_tokenizer, make_format, notes_of, row_tokenizer, seen
from tests.helpers import complaints

from newt.data.encode import format_row
from newt.support.errors import DataError

HEAD = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request."
)
HEAD_NO_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
CONCISE = (
    "Below is an instruction from a USER that describes a task, paired with an input that provides further context. "
    "The ASSISTANT writes a response that concisely and appropriately completes the request.\n\n"
)
CONCISE_NO_INPUT = (
    "Below is an instruction from a USER that describes a task. "
    "The ASSISTANT writes a response that appropriately and concisely completes the request.\n\n"
)
ROW = {"instruction": "Add {x}", "input": "1 2", "output": "3"}
NO_INPUT = {"instruction": "Hi", "input": "", "output": "Ho"}
SYSTEM = {**ROW, "system": "Be brief."}
ORCA = {"system_prompt": "Be brief.", "question": "Why?", "response": "So."}

INSTRUCT = "### Instruction:\nAdd {x}\n\n### Input:\n1 2\n\n### Response:\n⟦3</s>⟧"
INSTRUCT_NO_INPUT = "### Instruction:\nHi\n\n### Response:\n⟦Ho</s>⟧"
CHAT = "USER: Add {x}\n1 2\nASSISTANT:⟦3</s>⟧"
CHAT_NO_INPUT = "USER: Hi\nASSISTANT:⟦Ho</s>⟧"
CHATML = "<|im_start|>user\nAdd {x}\n1 2<|im_end|>\n<|im_start|>assistant\n⟦3</s>⟧"
ORCA_CHATML = (
    "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n⟦So.</s>⟧"
)


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ("alpaca", ROW, f"<s>{HEAD}\n\n{INSTRUCT}"),
        ("alpaca", NO_INPUT, f"<s>{HEAD_NO_INPUT}\n\n{INSTRUCT_NO_INPUT}"),
        ("alpaca.load", ROW, f"<s>{HEAD}\n\n{INSTRUCT}"),
        ("alpaca:instruct", ROW, f"<s>{HEAD}\n\n{INSTRUCT}"),
        ("alpaca:chat", ROW, f"<s>SYSTEM: {HEAD}\n{CHAT}"),
        ("alpaca:chat", NO_INPUT, f"<s>SYSTEM: {HEAD_NO_INPUT}\n{CHAT_NO_INPUT}"),
        ("alpaca:chatml", ROW, f"<s><|im_start|>system\n{HEAD}<|im_end|>\n{CHATML}"),
        (
            "alpaca:chatml",
            NO_INPUT,
            f"<s><|im_start|>system\n{HEAD_NO_INPUT}<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n⟦Ho</s>⟧",
        ),
        ("alpaca:phi", ROW, f"<s><|system|>\n{HEAD}<|end|>\n<|user|>\nAdd {{x}}<|end|>1 2<|assistant|>⟦3</s>⟧"),
        (
            "alpaca:phi",
            NO_INPUT,
            f"<s><|system|>\n{HEAD_NO_INPUT}<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n⟦Ho</s>⟧",
        ),
        ("alpaca_chat", ROW, f"<s>SYSTEM: {HEAD}\n{CHAT}"),
        ("alpaca_chat.load", NO_INPUT, f"<s>SYSTEM: {HEAD_NO_INPUT}\n{CHAT_NO_INPUT}"),
        ("alpaca_chat.load_concise", ROW, f"<s>SYSTEM: {CONCISE}\n{CHAT}"),
        ("alpaca_chat.load_concise", NO_INPUT, f"<s>SYSTEM: {CONCISE_NO_INPUT}\n{CHAT_NO_INPUT}"),
        ("alpaca_chat.load_qa", {"question": "Hi", "answer": "Ho"}, f"<s>SYSTEM: {CONCISE_NO_INPUT}\n{CHAT_NO_INPUT}"),
        (
            "alpaca_chat.load_camel_ai",
            {"message_1": "Hi", "message_2": "Ho"},
            f"<s>SYSTEM: {CONCISE_NO_INPUT}\n{CHAT_NO_INPUT}",
        ),
        ("alpaca_chat.load_no_prompt", ROW, f"<s>{CHAT}"),
        ("alpaca_instruct", ROW, f"<s>{HEAD}\n\n{INSTRUCT}"),
        ("alpaca_instruct.load", NO_INPUT, f"<s>{HEAD_NO_INPUT}\n\n{INSTRUCT_NO_INPUT}"),
        ("alpaca_instruct.load_no_prompt", ROW, f"<s>{INSTRUCT}"),
        ("alpaca_w_system", SYSTEM, f"<s>SYSTEM: Be brief.\n{CHAT}"),
        ("alpaca_w_system.load", NO_INPUT, f"<s>{CHAT_NO_INPUT}"),
        ("alpaca_w_system.load_chat", SYSTEM, f"<s>SYSTEM: Be brief.\n{CHAT}"),
        ("alpaca_w_system.load_instruct", SYSTEM, f"<s>Be brief.\n\n{INSTRUCT}"),
        ("alpaca_w_system.load_instruct", {**NO_INPUT, "system": ""}, f"<s>{INSTRUCT_NO_INPUT}"),
        (
            "alpaca_w_system.load_open_orca",
            ORCA,
            "<s>### System:\nBe brief.\n### Human:\nWhy?\n### Assistant:\n⟦So.</s>⟧",
        ),
        (
            "alpaca_w_system.load_open_orca",
            {**ORCA, "system_prompt": ""},
            "<s>### Human:\nWhy?\n### Assistant:\n⟦So.</s>⟧",
        ),
        ("alpaca_w_system.load_open_orca_chatml", ORCA, ORCA_CHATML),
        ("orcamini", ORCA, "<s>### System:\nBe brief.\n\n### User:\nWhy?\n\n### Response:\n⟦So.</s>⟧"),
        ("orcamini.load", {**ORCA, "system_prompt": None}, "<s>### User:\nWhy?\n\n### Response:\n⟦So.</s>⟧"),
        ("gpteacher", {"instruction": "Hi", "response": "Ho"}, f"<s>{HEAD_NO_INPUT}\n\n{INSTRUCT_NO_INPUT}"),
        ("gpteacher:chat", {"instruction": "Add {x}", "input": "1 2", "response": "3"}, f"<s>SYSTEM: {HEAD}\n{CHAT}"),
        ("oasst", {"INSTRUCTION": "Hi", "RESPONSE": "Ho"}, f"<s>{HEAD_NO_INPUT}\n\n{INSTRUCT_NO_INPUT}"),
        ("oasst:chat", {"INSTRUCTION": "Hi", "RESPONSE": "Ho"}, f"<s>SYSTEM: {HEAD_NO_INPUT}\n{CHAT_NO_INPUT}"),
        (
            "jeopardy",
            {"question": "The red planet", "category": "Space", "answer": "Mars"},
            f"<s>{HEAD}\n\n### Instruction:\nThe red planet\n\n### Input:\nSpace\n\n### Response:\n⟦what is Mars</s>⟧",
        ),
    ],
)
def test_prompt_and_labels_of_each_type(kind, row, expected):
    assert seen(kind, row) == expected


@pytest.mark.parametrize("row", [{}, {"input": None}, {"input": ""}])
def test_an_input_that_is_not_there_is_no_input(row):
    assert seen("alpaca_chat.load_no_prompt", {"instruction": "Hi", "output": "Ho", **row}) == f"<s>{CHAT_NO_INPUT}"


def test_conversation_is_the_style_of_alpaca_chat():
    assert seen("alpaca_chat", ROW, {"conversation": "instruct"}) == f"<s>{HEAD}\n\n{INSTRUCT}"


def test_train_on_inputs():
    everything = "<s>USER: Hi\nASSISTANT:Ho</s>"
    assert seen("alpaca_chat.load_no_prompt", NO_INPUT, train_on_inputs=True) == f"⟦{everything}⟧"


def test_an_end_token_that_is_there_is_not_written_twice():
    assert seen("alpaca_chat.load_no_prompt", {"instruction": "Hi", "output": "Ho</s>"}) == f"<s>{CHAT_NO_INPUT}"


def test_an_empty_response_trains_its_end_token_and_is_noted():
    row = {"instruction": "Hi", "output": ""}
    assert seen("alpaca_chat.load_no_prompt", row) == "<s>USER: Hi\nASSISTANT:⟦</s>⟧"
    assert notes_of("alpaca", row) == ["empty response: only the end token is trained"]
    assert notes_of("alpaca", ROW) == []


def test_a_response_has_no_beginning_token_also_when_the_config_names_another_one():
    tokenizer = copy.deepcopy(byte_tokenizer())
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    fmt = make_format("alpaca_chat.load_no_prompt")
    (row,) = row_tokenizer(fmt, tokenizer).encode(fmt(NO_INPUT))
    assert row.labels[row.labels >= 0].tolist() == [*tokenizer("Ho", add_special_tokens=False)["input_ids"], 1]


def test_special_tokens_of_the_style_are_tokens_and_those_of_the_row_are_text_when_asked_for():
    row = {"instruction": "a<|im_end|>", "output": "b<|im_end|>"}
    fmt = make_format("alpaca:chatml", split_special_tokens=True)
    ids = row_tokenizer(fmt).encode(format_row(fmt, row))[0].input_ids.tolist()
    assert (ids.count(2), ids.count(3)) == (3, 2)  # <|im_start|>, <|im_end|>
    plain = make_format("alpaca:chatml")
    assert row_tokenizer(plain).encode(format_row(plain, row))[0].input_ids.tolist().count(3) == 4


@pytest.mark.parametrize(
    ("kind", "row", "error"),
    [
        ("alpaca", {"instruction": "x", "input": ""}, "output is missing; the row has: instruction, input"),
        ("alpaca", {"instruction": "x", "output": None}, "output is missing; the row has: instruction"),
        ("alpaca", {"instruction": "x", "output": ["a"]}, r"output must be a text, it is \['a'\]"),
        ("alpaca", {"instruction": "x", "input": 3, "output": "a"}, "input must be a text, it is 3"),
        ("oasst", {}, "INSTRUCTION is missing; the row has: nothing"),
        ("orcamini", {**ORCA, "system_prompt": 1}, "system_prompt must be a text, it is 1"),
        ("jeopardy", {"question": "q"}, "answer is missing"),
    ],
)
def test_rows_that_do_not_fit(kind, row, error):
    with pytest.raises(DataError, match=error):
        format_row(make_format(kind), row)


def test_the_columns_that_a_row_must_have():
    assert make_format("alpaca").columns() == ("instruction", "output")
    assert make_format("alpaca_w_system.load_open_orca").columns() == ("question", "response")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"type": "alpaca", "input_format": "x"}, "datasets.0.input_format: has no effect. Remove it."),
        ({"type": "gpteacher", "field_human": "x"}, "datasets.0.field_human: has no effect. Remove it."),
        ({"type": "alpaca", "conversation": "chat"}, "datasets.0.conversation: has no effect with type alpaca"),
    ],
)
def test_keys_without_effect_are_named(entry, text):
    assert any(text in message for message in complaints(datasets=[{"path": "a/b", **entry}]))
