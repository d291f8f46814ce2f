"""Llama 2 Chat: the exact text, and what of it is trained."""

import pytest
from tests.formats.seen import byte_tokenizer, make_format, row_tokenizer, seen

from newt.data.encode import format_row
from newt.support.errors import DataError

SYSTEM = {"from": "system", "value": "Be salty."}
HUMAN, GPT = {"from": "human", "value": " Hi "}, {"from": "gpt", "value": "Arr."}
TEXT = "<s>[INST] <<SYS>>\nBe salty.\n<</SYS>>\n\nHi [/INST]⟦ Arr. </s>⟧<s>[INST] Hi [/INST]⟦ Arr. </s>⟧"


def test_every_answer_is_trained_with_its_end_token():
    row = {"conversations": [SYSTEM, HUMAN, GPT, HUMAN, GPT]}
    assert seen("llama2_chat", row) == TEXT
    assert seen("llama2_chat.load", row, train_on_inputs=True) == f"⟦{TEXT.replace('⟦', '').replace('⟧', '')}⟧"


def test_the_system_text_of_the_published_model_stands_in_for_a_missing_one():
    text = seen("llama2_chat", {"conversations": [HUMAN, GPT]}, sequence_len=2048)
    assert text.startswith("<s>[INST] <<SYS>>\nYou are a helpful, respectful and honest assistant. Always answer as")
    assert text.endswith("please don't share false information.\n<</SYS>>\n\nHi [/INST]⟦ Arr. </s>⟧")


def test_the_ids_are_those_of_the_published_prompt(real_tokenizer):
    """Each exchange is ``<s> prompt answer </s>``, tokenized as one text."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_tokenizer("llama2"))
    fmt = make_format("llama2_chat")
    (row,) = row_tokenizer(fmt, tokenizer).encode(fmt({"conversations": [SYSTEM, HUMAN, GPT]}))
    text = "[INST] <<SYS>>\nBe salty.\n<</SYS>>\n\nHi [/INST] Arr. "
    assert row.input_ids.tolist() == [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    assert tokenizer.decode(row.labels[row.labels >= 0]) == "Arr. </s>"


@pytest.mark.parametrize(
    ("turns", "error"),
    [
        ([HUMAN, HUMAN], "human and gpt must alternate: turn 1 is of 'human', not gpt"),
        ([SYSTEM, GPT, HUMAN], "turn 0 is of 'gpt', not human"),
        ([HUMAN], "conversations must hold a human turn and a gpt turn"),
        ([SYSTEM], "conversations must hold a human turn and a gpt turn"),
        ([HUMAN, {"from": "gpt"}], "value is missing; the row has: from"),
        (None, "conversations is missing"),
    ],
)
def test_rows_that_do_not_fit(turns, error):
    fmt = make_format("llama2_chat")
    fmt.bind(byte_tokenizer())
    with pytest.raises(DataError, match=error):
        format_row(fmt, {"conversations": turns})
