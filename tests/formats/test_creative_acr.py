"""Answer, critique, revise: the exact text, and what of it is trained."""

import pytest
from tests.formats.seen import make_format, seen

from newt.data.encode import format_row
from newt.support.errors import DataError

ROW = {
    "instruction": "Invent a holiday",
    "answer": "No.",
    "scores": {"refusal": 2, "creativity": 1},
    "critiques": {"refusal": {"explanation": "refuses", "improvements": "Übung"}},
    "revision": "Lantern Eve.",
}
EVALUATION = "creativity: 1\nrefusal: 2\nrefusal:\n  explanation: refuses\n  improvements: Übung\n"


def test_the_answer_is_the_revision():
    assert seen("creative_acr.load_answer", ROW) == (
        "<s>Answer the following question in a comprehensive, in-depth, and creative way. Additionally your response "
        "should be relevant, accurate, and free of any ambiguity.\n"
        "USER: Invent a holiday\nASSISTANT:⟦Lantern Eve.</s>⟧"
    )


def test_the_critique_is_written_in_yaml():
    text = seen("creative_acr.load_critique", ROW, sequence_len=4096)
    assert text.startswith("<s>USER: Definitions:\nrefusal: whether the Response refuses to answer the Question.")
    assert text.endswith(f"\n\nQuestion: Invent a holiday\nAnswer: No.\n\nASSISTANT:⟦{EVALUATION}</s>⟧")


def test_the_revision_sees_the_critique():
    text = seen("creative_acr.load_revise", ROW, sequence_len=4096)
    prompt = f"Question: Invent a holiday\nAnswer: No.\nEvaluation:\n{EVALUATION}\n\nASSISTANT:"
    assert text.endswith(f"Reply only with the revised response.\n\n{prompt}⟦Lantern Eve.</s>⟧")


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({**ROW, "scores": "refusal: 2"}, "scores must be an object, it is 'refusal: 2'"),
        ({**ROW, "answer": None}, "answer is missing"),
    ],
)
def test_rows_that_do_not_fit(row, error):
    with pytest.raises(DataError, match=error):
        format_row(make_format("creative_acr.load_revise"), row)


def test_nothing_to_criticise_is_an_empty_response():
    row = {**ROW, "scores": {}, "critiques": {}}
    assert seen("creative_acr.load_critique", row, sequence_len=4096).endswith("ASSISTANT:⟦</s>⟧")
