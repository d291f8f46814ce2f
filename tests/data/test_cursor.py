"""Reading rows from any place on."""

import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.data.pipeline import config

from newt.config.core import Dataset
from newt.data.cursor import Cursor, RowStream
from newt.data.sources import read


def stream(path, skip=0, **keys):
    entry = Dataset(path=str(path), **keys)
    return RowStream(read(entry, default_split="train", cfg=config([entry]), stream=True), skip)


def numbers(chunks):
    return [row["n"] for chunk in chunks for row in chunk.rows()]


@pytest.fixture(params=["jsonl", "jsonl.gz", "parquet", "folder", "json"])
def rows(request, tmp_path):
    """A dataset of the rows 0 to 9."""
    lines = [json.dumps({"n": n}) + "\n" for n in range(10)]
    if request.param == "folder":
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / "a.jsonl").write_text("".join(lines[:4]))
        (folder / "b.jsonl").write_text("".join(lines[4:]))
        return folder
    path = tmp_path / f"rows.{request.param}"
    if request.param == "parquet":
        parquet.write_table(pa.table({"n": list(range(10))}), path)
    elif request.param == "json":
        path.write_text(json.dumps([{"n": n} for n in range(10)]))
    else:
        with (gzip.open if path.suffix == ".gz" else open)(path, "wt") as file:
            file.writelines(lines)
    return path


def test_rows_come_in_their_order_and_again(rows):
    found = stream(rows)
    assert numbers(found.take(7)) == [0, 1, 2, 3, 4, 5, 6]
    assert numbers(found.take(7)) == [7, 8, 9]
    assert found.cursor == Cursor(passes=1)
    assert numbers(found.take(2)) == [0, 1]


def test_the_end_is_told_by_an_empty_answer(rows):
    found = stream(rows)
    assert numbers(found.take(10)) == list(range(10))
    assert found.take(1) == []
    assert numbers(found.take(1)) == [0]


@pytest.mark.parametrize("before", [0, 1, 3, 4, 5, 9, 10])
def test_seek_goes_on_where_another_stopped(rows, before):
    one, other = stream(rows), stream(rows)
    one.take(before)
    other.seek(one.cursor)
    assert numbers(other.take(20)) == list(range(before, 10))
    assert other.cursor == Cursor(passes=1)


def test_rows_keep_their_numbers_over_files(rows):
    found = stream(rows)
    found.take(3)
    assert [chunk.number(i) for chunk in found.take(4) for i in range(len(chunk))] == [3, 4, 5, 6]


def test_skip_holds_in_every_pass(rows):
    found = stream(rows, skip=7)
    assert numbers(found.take(9)) == [7, 8, 9]
    assert numbers(found.take(2)) == [7, 8]


def test_a_skip_of_everything_gives_nothing(rows):
    found = stream(rows, skip=10)
    assert found.take(3) == found.take(3) == []


def test_a_slice_of_the_split(rows):
    assert numbers(stream(rows, split="train[2:5]").take(9)) == [2, 3, 4]


def test_the_whole_file_is_not_read_for_the_first_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 0}\n' * 300 + "not json\n")
    assert numbers(stream(path).take(256)) == [0] * 256
