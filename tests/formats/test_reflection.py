"""Instructions with a reflection: the exact text, and what of it is trained."""

import pytest
from tests.formats.seen import make_format, row_tokenizer, seen

from newt.support.errors import DataError

ROW = {"instruction": "Why?", "output": "So.", "reflection": "Too short.", "corrected": "So it is."}
ANSWER = "### Thought:\nSo.\n\n### Agent Reflection:\nToo short.\n\n### Final Response:\nSo it is."


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ("reflection", ROW, f"<s>### Instruction:\nWhy?\n\n### Response:\n⟦{ANSWER}</s>⟧"),
        (
            "reflection:instruct",
            {**ROW, "input": "now"},
            f"<s>### Instruction:\nWhy?\n\n### Input:\nnow\n\n### Response:\n⟦{ANSWER}</s>⟧",
        ),
        (
            "reflection:chat",
            ROW,
            "<s>USER: Why?\nASSISTANT:⟦\nTHOUGHT: So.\nASSISTANT REFLECTION: Too short.\nASSISTANT: So it is.</s>⟧",
        ),
    ],
)
def test_prompt_and_labels(kind, row, expected):
    assert seen(kind, row) == expected


def test_prompt_and_answer_are_one_text_for_the_tokenizer(real_tokenizer):
    """A sentencepiece tokenizer would put a blank before an answer that it reads by itself."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_tokenizer("llama2"))
    fmt = make_format("reflection")
    (row,) = row_tokenizer(fmt, tokenizer).encode(fmt(ROW))
    whole = tokenizer(f"### Instruction:\nWhy?\n\n### Response:\n{ANSWER}")["input_ids"]
    assert row.input_ids.tolist() == [*whole, tokenizer.eos_token_id]
    assert tokenizer.decode(row.labels[row.labels >= 0]) == f"{ANSWER}</s>"


def test_missing_columns():
    with pytest.raises(DataError, match="corrected is missing; the row has: instruction, output, reflection"):
        make_format("reflection")({key: value for key, value in ROW.items() if key != "corrected"})
