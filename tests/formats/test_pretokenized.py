"""Rows that are tokens already."""

import pytest
from tests.formats.seen import byte_tokenizer, make_format, row_tokenizer, seen
from tests.helpers import complaints

from newt.data.encode import format_row
from newt.data.tokenize import RowError
from newt.extend import Facts
from newt.support.errors import DataError

IDS = byte_tokenizer()("abc", add_special_tokens=False)["input_ids"]
ROW = {"input_ids": IDS, "labels": [-100, *IDS[1:]], "attention_mask": [1, 1, 1]}


@pytest.mark.parametrize("kind", [None, "", "pretokenized"])
def test_tokens_pass_as_they_are(kind):
    assert seen(kind, ROW) == "a⟦bc⟧"
    assert seen(kind, {key: ROW[key] for key in ("input_ids", "labels")}) == "a⟦bc⟧"


def test_padding_is_left_out():
    padded = {"input_ids": [1, *IDS, 1], "labels": [-100, *ROW["labels"], -100], "attention_mask": [0, 1, 1, 1, 0]}
    assert seen(None, padded) == "a⟦bc⟧"
    assert seen(None, {**ROW, "attention_mask": [0, 0, 0]}) == ""


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"labels": None}, "labels is missing; the row has: input_ids, attention_mask. Set type if the rows are not"),
        ({"input_ids": "abc"}, "input_ids must be a list of whole numbers"),
        ({"input_ids": [1, 2.0, 3]}, "input_ids must be a list of whole numbers"),
        ({"labels": [1]}, "input_ids has 3 entries and labels 1"),
        ({"labels": [-100, 1, -100]}, r"labels\[1\] is 1: it must be -100 or the token itself"),
        ({"attention_mask": [1]}, "attention_mask has 1 entries and input_ids 3"),
        ({"attention_mask": [1, 0, 1]}, "attention_mask hides tokens between others"),
    ],
)
def test_rows_that_do_not_fit(change, error):
    with pytest.raises(DataError, match=error):
        format_row(make_format(None), {**ROW, **change})


@pytest.mark.parametrize("id_", [-1, 100_000])
def test_tokens_of_another_tokenizer(id_):
    fmt = make_format(None)
    with pytest.raises(RowError, match=f"{id_} is no token of this tokenizer, which has {len(byte_tokenizer())}"):
        row_tokenizer(fmt).encode(fmt({"input_ids": [id_, 5], "labels": [-100, 5]}))


def test_rows_of_another_layout_need_a_type():
    facts = Facts(known=True, columns={"datasets.0": ("instruction", "output")})
    (found,) = complaints(facts, datasets=[{"path": "a/b"}])
    assert found == (
        "datasets.0.type: the rows have no column 'input_ids' and no 'labels'; they have: instruction, output. "
        "Set type: without one, rows must be tokenized already."
    )
    known = Facts(known=True, columns={"datasets.0": tuple(ROW)})
    assert complaints(known, datasets=[{"path": "a/b", "type": ""}]) == []
