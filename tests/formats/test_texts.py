from __future__ import annotations

from typing import Any

import pytest

from newt.config.core import Data, Dataset
from newt.config.section import Config
from newt.extend import Format
from newt.formats.alpaca import Alpaca
from newt.formats.completion import Completion, CompletionDataset
from newt.support.errors import DataError


def alpaca(train_on_inputs: bool = False) -> Alpaca:
    return Alpaca(Dataset(path="x", type="alpaca"), Config({Data: Data(train_on_inputs=train_on_inputs)}))


def completion(field: str = "text") -> Completion:
    return Completion(CompletionDataset(path="x", type="completion", field=field), Config({Data: Data()}))


def test_alpaca_with_input() -> None:
    prompt, response = alpaca()({"instruction": "Add {x}", "input": "1 2", "output": "3"}).segments
    assert prompt.text == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd {x}\n\n### Input:\n1 2\n\n### Response:\n"
    )
    assert (prompt.train, response.text, response.train) == (False, "3", True)


@pytest.mark.parametrize("row", [{}, {"input": None}, {"input": ""}])
def test_alpaca_without_input(row: dict[str, Any]) -> None:
    prompt, _ = alpaca(train_on_inputs=True)({"instruction": "Add", "output": "3", **row}).segments
    assert prompt.text == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd\n\n### Response:\n"
    )
    assert prompt.train


def test_completion() -> None:
    text = completion("body")({"body": "abc"})
    assert [(s.text, s.train) for s in text.segments] == [("abc", True)]
    assert text.split and text.bos and text.eos
    assert completion("body").columns() == ("body",)


@pytest.mark.parametrize(
    ("fmt", "row", "error"),
    [
        (alpaca(), {"instruction": "x", "input": ""}, "output is missing; the row has: instruction, input"),
        (alpaca(), {"instruction": "x", "output": ["a"]}, r"output must be a text, it is \['a'\]"),
        (alpaca(), {"instruction": "x", "input": 3, "output": "a"}, "input must be a text, it is 3"),
        (completion(), {"body": "x"}, "text is missing; the row has: body"),
        (completion(), {}, "text is missing; the row has: nothing"),
        (completion(), {"text": 1}, "text must be a text, it is 1"),
    ],
)
def test_rows_that_do_not_fit(fmt: Format, row: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=error):
        fmt(row)
