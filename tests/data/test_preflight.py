"""What is said about datasets before anything is loaded."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.data.pipeline import config, write_jsonl

from newt.config.core import Dataset
from newt.data.preflight import first_columns, problems


def said(path: object, **keys: Any) -> list[str]:
    entry = Dataset(path=str(path), **keys)
    return [str(problem) for problem in problems(entry, "datasets.0", config([entry]))]


def test_the_module_stays_light() -> None:
    heavy = "{'torch', 'pyarrow', 'numpy', 'datasets'}"
    code = f"import sys, newt.data.preflight; print([*sys.modules.keys() & {heavy}])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a_good_file_has_no_problems(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", [{"text": "a"}])
    assert said(path) == []
    assert said(path, split="train[:1]") == []
    assert said(tmp_path) == []
    assert said(tmp_path, data_files="*.jsonl") == []
    assert said("json", data_files=str(path)) == []


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{}])
    wrong = tmp_path / "trian.jsonl"
    assert said(wrong) == [
        f"datasets.0.path: there is no file or folder {wrong}. Did you mean {tmp_path / 'train.jsonl'}?"
    ]
    assert "Check the path" in said(tmp_path / "other.parquet")[0]
    assert said(tmp_path, data_files=("train.jsonl", "tain.jsonl")) == [
        f"datasets.0.data_files: there is no file {tmp_path / 'tain.jsonl'}. Did you mean {tmp_path / 'train.jsonl'}?"
    ]


def test_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert said("org/name") == []
    assert said("https://example.org/rows.jsonl") == []
    assert "neither a path nor a dataset of the Hub (org/name)" in said("a b/c/d")[0]
    entry = Dataset(path="imdb")
    assert [problem.kind for problem in problems(entry, "datasets.0", config([entry]))] == ["warning"]
    (tmp_path / "data").mkdir()
    assert "there is no file or folder data/rows" in said("data/rows")[0]
    assert "Did you mean data?" in said("dta")[0]


def test_files_that_cannot_be_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_text("x")
    assert said(tmp_path / "rows.xlsx")[0].startswith(
        "datasets.0.path: rows.xlsx has an unknown file type. Set ds_type"
    )
    assert said(tmp_path / "rows.xlsx", ds_type="json") == []
    (tmp_path / "empty.jsonl").touch()
    assert "empty.jsonl is empty" in said(tmp_path / "empty.jsonl")[0]
    folder = tmp_path / "none"
    folder.mkdir()
    assert "there are no data files in" in said(folder)[0]
    write_jsonl(folder / "a.jsonl", [{}])
    (folder / "b.csv").write_text("text\na\n")
    assert "several types of files (csv, json)" in said(folder)[0]
    assert said(folder, ds_type="csv") == []


def test_a_file_has_one_split(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{}])
    assert said(path, split="test[:5]") == [
        "datasets.0.split: test[:5] does not exist: files have one split, train. "
        "Remove it, or write train with a slice such as train[:500]."
    ]


def test_first_columns(tmp_path: Path) -> None:
    row = {"messages": [], "id": None}
    files: dict[str, bytes] = {
        "a.jsonl": b"\n" + json.dumps(row).encode() + b"\n{",
        "b.json": json.dumps([row, row], indent=2).encode(),
        "c.jsonl.gz": gzip.compress(json.dumps(row).encode()),
        "d.csv": b"\xef\xbb\xbfmessages,id\n",
        "e.tsv": b"messages\tid\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert first_columns(Dataset(path=str(tmp_path / name))) == ["messages", "id"], name
    (tmp_path / "f.txt").write_text("line")
    assert first_columns(Dataset(path=str(tmp_path / "f.txt"))) == ["text"]
    (tmp_path / "g.jsonl").write_text("not json")
    assert first_columns(Dataset(path=str(tmp_path / "g.jsonl"))) is None
    assert first_columns(Dataset(path=str(tmp_path / "missing.jsonl"))) is None
    assert first_columns(Dataset(path="org/name")) is None
