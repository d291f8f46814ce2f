"""Every place that rows can come from gives the same rows, and says where a bad one stands."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from tests.data.fake_hub import FakeHub, fake_hub
from tests.data.pipeline import config, write_jsonl

from newt.config.core import Dataset
from newt.data import records
from newt.data.sources import Source, read
from newt.support.errors import DataError

ROWS = [{"text": f"row {i}", "extra": None if i % 2 else "x"} for i in range(600)]


def source(path: object, default_split: str = "train", **keys: Any) -> Source:
    entry = Dataset(path=str(path), **keys)
    return read(entry, default_split=default_split, cfg=config([entry]))


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(folder: Path, name: str) -> Path:
    path = folder / name
    content = {
        "rows.jsonl": jsonl(ROWS),
        "rows.ndjson": b"\xef\xbb\xbf" + jsonl(ROWS).replace(b"\n", b"\r\n\r\n"),
        "rows.json": json.dumps(ROWS).encode(),
        "pretty.json": json.dumps(ROWS, indent=2).encode(),
        "rows.jsonl.gz": gzip.compress(jsonl(ROWS)),
        "rows.jsonl.zst": pa.compress(jsonl(ROWS), codec="zstd", asbytes=True),
    }.get(name)
    if content is not None:
        path.write_bytes(content)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=100)
    elif name == "stream.arrow":
        table = pa.Table.from_pylist(ROWS)
        with pa.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)
    else:
        table = pa.Table.from_pylist(ROWS)
        with pa.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table)
    return path


FILES = [
    *("rows.jsonl", "rows.ndjson", "rows.json", "pretty.json", "rows.jsonl.gz", "rows.jsonl.zst"),
    *("rows.parquet", "stream.arrow", "file.arrow"),
]


@pytest.mark.parametrize("name", FILES)
def test_every_file_type_gives_the_rows(tmp_path: Path, name: str) -> None:
    found = source(write(tmp_path, name))
    assert list(found) == ROWS
    assert len(found) == 600
    assert found.columns == ("text", "extra")
    chunks = list(found.chunks(100))
    assert max(map(len, chunks)) <= 100
    assert [chunk.first for chunk in chunks] == [sum(map(len, chunks[:i])) for i in range(len(chunks))]


def test_csv_and_tsv_cells_are_strings(tmp_path: Path) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([["q", "a"], ["1, or 2?", "007"], ["two\nlines", ""], ["short"]])
    (tmp_path / "a.csv").write_text("\ufeff" + text.getvalue())
    (tmp_path / "a.tsv").write_text("q\ta\nNA\tTrue\n")
    assert list(source(tmp_path / "a.csv")) == [
        {"q": "1, or 2?", "a": "007"},
        {"q": "two\nlines", "a": ""},
        {"q": "short", "a": None},
    ]
    assert list(source(tmp_path / "a.tsv")) == [{"q": "NA", "a": "True"}]


def test_text_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("ä b \r\n\nlast".encode())
    assert list(source(tmp_path / "a.txt")) == [{"text": "ä b "}, {"text": "last"}]


def test_json_rows_are_not_unified(tmp_path: Path) -> None:
    calls = [
        {"arguments": {"city": "Rome"}},
        {"arguments": {"x": 1, "y": None}},
        {"arguments": "text"},
        {"other": [1, "a"]},
    ]
    rows = [{"calls": [call]} for call in calls]
    assert list(source(write_jsonl(tmp_path / "a.jsonl", rows))) == rows


def test_table_rows_lose_the_keys_that_only_other_rows_have(tmp_path: Path) -> None:
    rows = [{"calls": [{"arguments": {"city": "Rome"}}], "z": None}, {"calls": [{"arguments": {"x": 1}}], "z": "a"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert list(source(tmp_path / "a.parquet")) == rows
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    assert list(source(tmp_path / "saved")) == rows


def test_json_columns_of_a_table_are_parsed(tmp_path: Path) -> None:
    rows = [{"call": {"a": 1}}, {"call": {"b": "x"}}]
    features = datasets.Features({"call": datasets.Json()})
    datasets.Dataset.from_list(rows, features=features).to_parquet(tmp_path / "a.parquet")
    assert list(source(tmp_path / "a.parquet")) == rows


@pytest.mark.parametrize(
    ("split", "numbers"),
    [
        ("train", range(600)),
        ("train[:5]", range(5)),
        ("train[-3:]", range(597, 600)),
        ("train[10%:20%]", range(60, 120)),
        ("train[250:270]", range(250, 270)),
        ("train[:2]+train[598:]", [0, 1, 598, 599]),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "pretty.json"])
def test_slices(tmp_path: Path, name: str, split: str, numbers: Any) -> None:
    found = source(write(tmp_path, name), split=split)
    assert [row["text"] for row in found] == [f"row {i}" for i in numbers]
    assert len(found) == len(numbers)
    assert next(found.chunks()).first == numbers[0]


def test_a_slice_runs_over_files(tmp_path: Path) -> None:
    for part in range(3):
        write_jsonl(tmp_path / f"{part}.jsonl", [{"n": part * 10 + i} for i in range(10)])
    assert [row["n"] for row in source(tmp_path, split="train[8:21]")] == list(range(8, 21))
    assert [row["n"] for row in source(tmp_path, data_files=("2.jsonl", "0.jsonl"))] == [*range(20, 30), *range(10)]
    assert [row["n"] for row in source(tmp_path, data_files="[12].jsonl")] == list(range(10, 30))
    pieces = list(source(tmp_path, split="train[8:21]").chunks())
    assert [(Path(piece.file).name, piece.first) for piece in pieces] == [
        ("0.jsonl", 8),
        ("1.jsonl", 10),
        ("2.jsonl", 20),
    ]


def test_data_files_may_say_the_split(tmp_path: Path) -> None:
    for part in range(3):
        write_jsonl(tmp_path / f"{part}.jsonl", [{"n": part}])
    files: dict[str, Any] = {"train": ("0.jsonl", "1.jsonl"), "test": "2.jsonl"}
    assert [row["n"] for row in source(tmp_path, data_files=files)] == [0, 1]
    assert [row["n"] for row in source(tmp_path, "test", data_files=files)] == [2]
    assert [row["n"] for row in source(tmp_path, data_files=files, split="test+train[1:]")] == [2, 1]
    with pytest.raises(DataError, match="dev does not exist: data_files has train, test"):
        source(tmp_path, data_files=files, split="dev")


def test_a_path_may_be_a_pattern(tmp_path: Path) -> None:
    for part in range(3):
        write_jsonl(tmp_path / f"{part}.jsonl", [{"n": part}])
    write_jsonl(tmp_path / "a[1].jsonl", [{"n": "literal"}])
    assert [row["n"] for row in source(tmp_path / "[12].jsonl")] == [1, 2]
    assert [row["n"] for row in source(tmp_path / "a[1].jsonl")] == ["literal"]
    with pytest.raises(DataError, match="there is no file or folder"):
        source(tmp_path / "[45].jsonl")


def test_files_of_a_type_by_name(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.data", [{"a": 1}])
    assert list(source("json", data_files=str(path))) == [{"a": 1}]
    assert list(source(path, ds_type="json")) == [{"a": 1}]


# --------------------------------------------------------------------------- splits


def test_splits_of_a_folder_are_told_by_names(tmp_path: Path) -> None:
    for name in ("data/train-00000-of-00002", "data/train-00001-of-00002", "data/test-00000-of-00001", "dev"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"name": name}])
    assert len(source(tmp_path)) == 2
    assert list(source(tmp_path, "test")) == [{"name": "data/test-00000-of-00001"}]
    assert list(source(tmp_path, split="validation")) == [{"name": "dev"}]
    with pytest.raises(DataError, match=r"there is no split other \(found: .*train.*\)"):
        source(tmp_path, split="other")


def test_evaluation_rows_come_from_train_only_if_nothing_tells_splits_apart(tmp_path: Path) -> None:
    plain = write_jsonl(tmp_path / "plain" / "rows.jsonl", [{"a": 1}])
    assert list(source(plain, "test")) == [{"a": 1}]
    assert list(source(plain.parent, "test")) == [{"a": 1}]
    write_jsonl(tmp_path / "named" / "train.jsonl", [{"a": 1}])
    with pytest.raises(DataError, match=r"there is no split test \(found: train\). Set split"):
        source(tmp_path / "named", "test")


def test_saved_datasets(tmp_path: Path) -> None:
    table = datasets.Dataset.from_list(ROWS)
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table, "test": table.select(range(3))}).save_to_disk(tmp_path / "both")
    assert list(source(tmp_path / "one", "test")) == ROWS
    assert list(source(tmp_path / "both")) == ROWS
    assert list(source(tmp_path / "both", "test")) == ROWS[:3]
    assert list(source(tmp_path / "both", split="train[:2]")) == ROWS[:2]


def test_a_folder_with_a_dataset_card(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: x.jsonl\n"
    card += "- config_name: b\n  data_files:\n  - split: test\n    path: y.jsonl\n---\n"
    (tmp_path / "README.md").write_text(card)
    write_jsonl(tmp_path / "x.jsonl", [{"args": {"k": 1}}, {"args": {"l": "m"}}])
    write_jsonl(tmp_path / "y.jsonl", [{"b": 2}])
    assert list(source(tmp_path, name="a")) == [{"args": {"k": 1}}, {"args": {"l": "m"}}]
    assert list(source(tmp_path, "test", name="b")) == [{"b": 2}]
    with pytest.raises(DataError, match="'c' not found"):
        source(tmp_path, name="c")


# --------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n\n{"a": }\n', "a.jsonl:3: is not valid JSON: Expecting value (column 7)"),
        ("a.jsonl", b'{"a": 1}\n{"a": 1,\n', "name enclosed in double quotes (column 9)"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', "a.jsonl:2: a row must be a JSON object, this is a list."),
        ("a.jsonl", b'{"a": 1}\nnull\n', "a.jsonl:2: a row must be a JSON object, this is a null."),
        ("a.jsonl", '{"a": 1}\n{"a": "é"}\n'.encode("latin-1"), "a.jsonl:2: is not UTF-8 (byte 0xe9 at column 8)"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "a.jsonl:1: is not UTF-8 (byte 0xff at column 1)"),
        ("a.json", b'[{"a": 1},\n {"a": x}]', "a.json:2: is not valid JSON"),
        ("a.json", b'[{"a": 1},\n {"a": 2}', "a.json:2: is not valid JSON"),
        ("a.json", b'[{"a": 1},\n 5]', "a.json:2: a row must be a JSON object, this is a number."),
        ("a.json", b'[{"a": 1}]\n[{"a": 2}]', "there is more text after the end of the list"),
        ("a.json", b'{\n "a": 1\n}', "a.json:1: is not valid JSON"),
        ("a.csv", b"x,y\n1,2,3\n", "a.csv:2: has 3 cells, the header has 2. Is a quote missing?"),
        ("a.csv", b'x,y\n1,"2\n', "a.csv:2: is not valid CSV"),
        ("a.csv", b"x,y\n1,\xe9\n", "a.csv:2: is not UTF-8"),
        ("a.jsonl.gz", b'{"a": 1}\n', "is damaged or not compressed as its name says"),
        ("a.jsonl.gz", gzip.compress(jsonl(ROWS))[:-40], "is damaged or not compressed as its name says"),
        ("a.jsonl.zst", b'{"a": 1}\n', "a.jsonl.zst: cannot be read: ZSTD decompress failed"),
        ("a.jsonl.zst", pa.compress(jsonl(ROWS), codec="zstd", asbytes=True)[:-40], "cannot be read: Truncated"),
        ("a.parquet", b"PAR1 not really", "a.parquet: cannot be read as a table"),
        ("a.arrow", b"not really", "a.arrow: cannot be read as a table"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(source(tmp_path / name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_path_is_told_as_in_the_check(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file or folder"):
        source(tmp_path / "none.jsonl")


def test_a_split_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the split train\[a:b\] cannot be read"):
        len(source(write_jsonl(tmp_path / "a.jsonl", [{}]), split="train[a:b]"))


# --------------------------------------------------------------------------- memory


def test_a_long_list_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_BLOCK", 50)
    rows = [{"text": "ü" * (i % 120), "n": [i, {"k": "]}"}]} for i in range(200)]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    assert list(source(tmp_path / "a.json")) == rows


def test_chunks_of_long_lines_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "CHUNK_BYTES", 1000)
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x" * 400} for _ in range(10)])
    assert [len(chunk) for chunk in source(path).chunks()] == [3, 3, 3, 1]


# --------------------------------------------------------------------------- fingerprints


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"a": 1}, {"a": 2}])
    before = source(path).fingerprint
    path.touch()
    assert source(path).fingerprint == before
    moved = path.rename(tmp_path / "b.jsonl")
    assert source(moved).fingerprint == before
    assert source(moved, split="train[:1]").fingerprint != before
    write_jsonl(moved, [{"a": 1}, {"a": 3}])
    assert source(moved).fingerprint != before


# --------------------------------------------------------------------------- the Hub


def test_the_hub_gets_what_the_entry_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(path: str, name: str | None = None, **keys: Any) -> Any:
        asked.append((path, name, keys))
        return datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = source("org/name", name="main", revision="v1", data_files=("a.json",), split="train[:2]")
    assert list(found) == ROWS[:2]
    files: dict[str, Any] = {"revision": "v1", "data_files": ["a.json"], "streaming": False}
    assert asked == [("org/name", "main", files)]
    source("org/name", name="main", data_files={"train": ("a.json", "b.json")})
    assert asked[-1][2]["data_files"] == {"train": ["a.json", "b.json"]}
    with pytest.raises(DataError, match=r"there is no split test \(found: train\)"):
        source("org/name", "test")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        template = found.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        found.repos["org/name"], found.private["org/name"], found.commits["org/name"] = {}, False, 1
        yield found


def test_files_of_the_hub_are_read_here(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"calls": {"x": 1}}, {"calls": {"y": [1, "a"]}}]
    files = {"d/a.jsonl": jsonl(rows), "d/b.jsonl": jsonl(ROWS[:3]), "bad.jsonl": b'{"a": 1}\n{"a": }\n'}
    hub.repos["org/name"].update(files)
    assert list(source("org/name", data_files="d/a.jsonl")) == rows
    assert list(source("org/name", data_files=("d/b.jsonl", "d/a.jsonl"))) == [*ROWS[:3], *rows]
    assert list(source("org/name", data_files="d/*.jsonl", split="train[:1]")) == rows[:1]
    assert list(source("org/name", "test", data_files={"train": "d/a.jsonl", "test": ("d/b.jsonl",)})) == ROWS[:3]
    with pytest.raises(DataError, match=r"bad.jsonl:2: is not valid JSON"):
        list(source("org/name", data_files="bad.jsonl"))
    with pytest.raises(DataError, match=r"org/name: there is no file none.jsonl in it. Check data_files"):
        source("org/name", data_files="none.jsonl")
    with pytest.raises(DataError, match=r"org/other: .*Check path, name, revision and data_files."):
        source("org/other", data_files="a.jsonl")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert list(source("org/name", data_files="d/a.jsonl")) == rows, "what was fetched is there offline"


def test_network_errors_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    errors: list[Exception] = [ConnectionError("reset"), TimeoutError("slow")]

    def load_dataset(*_: Any, **__: Any) -> Any:
        if errors:
            raise errors.pop()
        return datasets.Dataset.from_list(ROWS[:1])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr("newt.data.retry.time.sleep", waits.append)
    assert list(source("org/name")) == ROWS[:1]
    assert waits == [5, 10]
    errors[:] = [ConnectionError("reset")] * 3
    with pytest.raises(DataError, match=r"org/name: reset. Check the network."):
        source("org/name")
    errors[:] = [datasets.exceptions.DatasetNotFoundError("it doesn't exist on the Hub")]
    with pytest.raises(DataError, match=r"doesn't exist on the Hub. Check path, name"):
        source("org/name")
    assert waits == [5, 10, 5, 10]


def test_offline_is_said_plainly() -> None:
    with pytest.raises(DataError, match="offline mode is on"):
        source("nobody/nothing-of-this-name")
