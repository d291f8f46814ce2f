"""Answers in steps: labels stand at the last token of each step's separator."""

from __future__ import annotations

from typing import Any

import pytest
from tests.formats.seen import byte_tokenizer, row_tokenizer

from newt.config.core import Batch, Data, Template
from newt.config.section import Config
from newt.data.encode import format_row
from newt.formats.stepwise import Stepwise, StepwiseDataset
from newt.support.errors import DataError

ROW = {"prompt": "Q", "completions": ["ab", "c"], "labels": [True, False]}


def stepwise(**keys: Any) -> Stepwise:
    cfg = Config({Data: Data(), Template: Template(), Batch: Batch()})
    return Stepwise(StepwiseDataset(path="x", type="stepwise_supervised", **keys), cfg)


def judged(row: dict[str, Any], **keys: Any) -> tuple[str, dict[int, int]]:
    """The text, and place -> label."""
    fmt = stepwise(**keys)
    (made,) = row_tokenizer(fmt).encode(format_row(fmt, row))
    labels = {place: int(label) for place, label in enumerate(made.labels) if label != -100}
    return byte_tokenizer().decode(made.input_ids), labels


def test_labels_stand_at_the_separators():
    assert judged(ROW) == ("<s>Qab\nc\n", {4: 1, 6: 0})
    assert judged({**ROW, "labels": [0, 1]}) == ("<s>Qab\nc\n", {4: 0, 6: 1})
    assert judged(ROW, step_separator=" ok") == ("<s>Qab okc ok", {6: 1, 10: 0})


def test_only_the_last_step():
    assert judged(ROW, train_on_last_step_only=True) == ("<s>Qab\nc\n", {6: 0})


def test_the_longest_answer():
    assert judged(ROW, max_completion_length=3) == ("<s>Qab\n", {4: 1})
    assert judged(ROW, max_completion_length=2) == ("<s>Qab", {})
    assert judged(ROW, max_completion_length=99) == judged(ROW)


def test_an_empty_prompt():
    assert judged({**ROW, "prompt": ""}) == ("<s>ab\nc\n", {3: 1, 5: 0})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"labels": [True]}, "completions has 2 steps and labels 1"),
        ({"labels": [1, 2]}, "labels must be a list of true and false"),
        ({"labels": None}, "labels must be a list of true and false, it is None"),
        ({"completions": "ab"}, "completions must be a list of texts, it is 'ab'"),
        ({"completions": []}, "completions must be a list of texts"),
        ({"prompt": None}, "prompt is missing; the row has: completions, labels"),
    ],
)
def test_rows_that_do_not_fit(change, error):
    fmt = stepwise()
    fmt.bind(byte_tokenizer())
    with pytest.raises(DataError, match=error):
        format_row(fmt, {**ROW, **change})


def test_a_separator_that_is_nothing():
    with pytest.raises(DataError, match="step_separator gives no token"):
        stepwise(step_separator="").bind(byte_tokenizer())
