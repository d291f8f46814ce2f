"""Token rows: what is written comes back, from any process, without copies."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from newt.data.rows import TokenRows, TokenWriter, files_of, trained_tokens


def columns(*rows: tuple[int, list[int], int]) -> dict[str, np.ndarray]:
    """Rows (number, ids, how many labels are masked)."""
    labels = [[-100] * masked + ids[masked:] for _, ids, masked in rows]
    return {
        "input_ids": np.array([i for _, ids, _ in rows for i in ids], np.int32),
        "labels": np.array([i for ids in labels for i in ids], np.int32),
        "lengths": np.array([len(ids) for _, ids, _ in rows], np.int32),
        "row": np.array([number for number, _, _ in rows], np.int32),
        "trained": np.array([trained_tokens(np.array(ids)) for ids in labels], np.int32),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "rows.arrow"
    with TokenWriter(file) as writer:
        writer.add(columns((0, [1, 2, 3], 1), (2, [4, 5], 0)), dataset=0)
        writer.add(columns(), dataset=0)
        writer.add(columns((0, [6, 7, 8, 9], 3)), dataset=1)
    return file


def test_rows_come_back(path: Path) -> None:
    rows = TokenRows(path)
    assert len(rows) == 3
    assert [rows[i]["input_ids"].tolist() for i in range(3)] == [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    assert [row["labels"].tolist() for row in rows] == [[-100, 2, 3], [4, 5], [-100, -100, -100, 9]]
    assert rows[-1]["input_ids"].tolist() == [6, 7, 8, 9]
    assert (rows.lengths.dtype, rows.lengths.tolist()) == (np.int32, [3, 2, 4])
    assert rows.trained.tolist() == [2, 1, 1]
    assert rows.dataset.tolist() == [0, 0, 1]
    assert [rows.provenance(i) for i in range(3)] == [(0, 0), (0, 2), (1, 0)]
    with pytest.raises(IndexError):
        rows[3]


def test_rows_are_views_of_the_file(path: Path) -> None:
    ids = TokenRows(path)[0]["input_ids"]
    assert ids.dtype == np.int32
    assert not ids.flags.owndata
    assert not ids.flags.writeable


def test_a_choice_of_rows(path: Path) -> None:
    chosen = TokenRows(path).select([2, 0, 1]).select([0, 2])
    assert [row["input_ids"].tolist() for row in chosen] == [[6, 7, 8, 9], [4, 5]]
    assert chosen.lengths.tolist() == [4, 2]
    assert chosen.provenance(1) == (0, 2)


def test_rows_travel_by_their_file(path: Path) -> None:
    chosen = TokenRows(path).select([2, 0])
    sent = pickle.dumps(chosen)
    assert len(sent) < 1000
    assert [row["labels"].tolist() for row in pickle.loads(sent)] == [row["labels"].tolist() for row in chosen]


def test_no_rows(tmp_path: Path) -> None:
    with TokenWriter(tmp_path / "none.arrow"):
        pass
    rows = TokenRows(tmp_path / "none.arrow")
    assert (len(rows), rows.lengths.tolist(), list(rows)) == (0, [], [])


def test_the_first_label_never_counts() -> None:
    assert trained_tokens(np.array([5, -100, 6])) == 1
    assert trained_tokens(np.array([5])) == 0


@pytest.mark.parametrize("files", [2, 3, 7])
def test_several_files_give_the_rows_in_their_order(
    tmp_path: Path, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("newt.data.rows._BATCH_TOKENS", 20)
    with TokenWriter(tmp_path / "one.arrow") as one, TokenWriter(tmp_path / "rows.arrow", files) as several:
        for number in range(40):
            for writer in (one, several):
                writer.add(columns((number, [number, 1, 2], 1), (number, [number] * (number % 5 + 1), 0)), dataset=0)
    assert len(files_of(tmp_path / "rows.arrow")) == files
    assert not (tmp_path / "rows.arrow").exists()
    split, whole = TokenRows(tmp_path / "rows.arrow"), TokenRows(tmp_path / "one.arrow")
    assert len(split) == len(whole) == 80
    for number in range(80):
        assert split[number]["input_ids"].tolist() == whole[number]["input_ids"].tolist()
        assert split[number]["labels"].tolist() == whole[number]["labels"].tolist()
        assert split.provenance(number) == whole.provenance(number)
    sizes = [pa.ipc.open_file(str(path)).read_all().num_rows for path in files_of(tmp_path / "rows.arrow")]
    assert sum(sizes) == 80
    assert min(sizes) >= 80 // files // 2


def test_few_rows_are_shared_between_the_files(tmp_path: Path) -> None:
    with TokenWriter(tmp_path / "rows.arrow", 4) as writer:
        writer.add(columns(*((number, [number, 1], 0) for number in range(8))), dataset=0)
    tables = [pa.ipc.open_file(str(path)).read_all() for path in files_of(tmp_path / "rows.arrow")]
    assert [table.num_rows for table in tables] == [2, 2, 2, 2]
    assert files_of(tmp_path / "rows.arrow")[0].name == "rows-00000-of-00004.arrow"


def test_rows_held_in_memory_outlive_the_file(path: Path) -> None:
    mapped, held = TokenRows(path), TokenRows(path, in_memory=True)
    assert [row["labels"].tolist() for row in held] == [row["labels"].tolist() for row in mapped]
    before = held[2]["input_ids"].tolist()
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    assert held[2]["input_ids"].tolist() == before
    assert mapped[2]["input_ids"].tolist() != before
