"""Questions: the exact prompt of each type, and what of it is trained."""

import pytest
from tests.formats.seen import make_format, seen

from newt.data.encode import format_row
from newt.support.errors import DataError

CHOICE = {"question": "Which?", "choices": ["a", 'b "c"'], "solution": "a"}
NO_CHOICES = {"question": "Which?", "choices": [], "solution": "none"}
LIST = '- "a"\n- "b "c""'
EXPLAIN = "Choose the answer that best answers the question. Explain your reasoning.\n"
CONCISE = "Choose the answer that best answers the question. Be concise in your response.\n\n"
CONTEXT = "Use the following contextual information to concisely answer the question.\n"
REFUSAL = (
    "The context provided does not contain any information about your inquiry. "
    "Therefore, I'm unable to answer your question based on the given context."
)
TEXT = {"article": "Long.", "question": "When?", "answer": "1871"}


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        (
            "explainchoice",
            CHOICE,
            f"<s>{EXPLAIN}\n\n### Instruction:\nWhich?\n\n### Input:\n{LIST}\n\n### Response:\n⟦a</s>⟧",
        ),
        ("explainchoice", NO_CHOICES, f"<s>{EXPLAIN}\n\n### Instruction:\nWhich?\n\n### Response:\n⟦none</s>⟧"),
        (
            "explainchoice:chat",
            {"question": "Which?", "choices": ["a"], "explanation": "since"},
            f'<s>SYSTEM: {EXPLAIN}\nUSER: Which?\n- "a"\nASSISTANT:⟦since</s>⟧',
        ),
        ("concisechoice", CHOICE, f"<s>{CONCISE}USER: Which?\n{LIST}\nASSISTANT:⟦a</s>⟧"),
        (
            "concisechoice:chatml",
            NO_CHOICES,
            f"<s><|im_start|>system\n{CONCISE}<|im_end|>\n<|im_start|>user\nWhich?<|im_end|>\n"
            "<|im_start|>assistant\n⟦none</s>⟧",
        ),
        (
            "summarizetldr",
            {"article": "Long.", "summary": "S."},
            "<s>USER: Summarize the following article as a TL;DR.\nLong.\nASSISTANT:⟦S.</s>⟧",
        ),
        ("context_qa", TEXT, f"<s>SYSTEM: {CONTEXT}\nUSER: Long.\n===\nWhen?\nASSISTANT:⟦1871</s>⟧"),
        ("context_qa.load", TEXT, f"<s>SYSTEM: {CONTEXT}\nUSER: Long.\n===\nWhen?\nASSISTANT:⟦1871</s>⟧"),
        (
            "context_qa.load_v2",
            {"context": "Long.", "question": "When?", "answer": "1871"},
            "<s>Context: Long.\nQuestion: When?\n⟦Answer: 1871</s>⟧",
        ),
        (
            "context_qa.load_404",
            {"article": "Long.", "unanswerable_question": "Who?"},
            f"<s>SYSTEM: {CONTEXT}\nUSER: Long.\n===\nWho?\nASSISTANT:⟦{REFUSAL}</s>⟧",
        ),
    ],
)
def test_prompt_and_labels_of_each_type(kind, row, expected):
    assert seen(kind, row) == expected


@pytest.mark.parametrize(
    ("kind", "row", "error"),
    [
        ("explainchoice", {**CHOICE, "choices": "a"}, "choices must be a list of texts, it is 'a'"),
        ("explainchoice", {**CHOICE, "choices": [1]}, "choices must be a list of texts"),
        ("explainchoice", {"question": "q", "solution": "a"}, "choices must be a list of texts, it is None"),
        ("concisechoice", {**CHOICE, "solution": None}, "explanation is missing; the row has: question, choices"),
        ("context_qa.load_404", TEXT, "unanswerable_question is missing"),
    ],
)
def test_rows_that_do_not_fit(kind, row, error):
    with pytest.raises(DataError, match=error):
        format_row(make_format(kind), row)
