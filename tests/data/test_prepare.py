"""The pipeline from files to token rows: what is kept, in which order, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.pipeline import FakeTokenizer, HandsThrough, Ids, config, plan_of, write_ids, write_jsonl

from newt.config.core import Dataset
from newt.data.encode import without_none
from newt.data.pack import best_fit_decreasing
from newt.data.prepare import Datasets, prepare
from newt.data.rows import TokenRows
from newt.extend import Format, FormattedRow, Tokens
from newt.support.errors import DataError, NewtError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def entry(path: str, **keys: Any) -> Dataset:
    return Dataset(path=path, type="ids", **keys)


def run(*entries: Dataset, tests: tuple[Dataset, ...] = (), fmt: type[Format] = Ids, **keys: Any) -> Datasets:
    return prepare(plan_of(config(entries, tests, **keys), fmt), FakeTokenizer())


def firsts(rows: TokenRows | None) -> list[int]:
    assert rows is not None
    return [int(row["input_ids"][0]) for row in rows]


# --------------------------------------------------------------------------- order


def test_rows_are_shuffled_by_the_seed_and_split(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5] * 20)
    order = (1000 + np.random.default_rng(7).permutation(20)).tolist()
    made = run(entry("a.jsonl"), seed=7, val_set_size=0.25)
    assert firsts(made.train) == order[:15]
    assert firsts(made.eval) == order[15:]
    assert made.train.provenance(0) == (0, order[0] - 1000)
    assert run(entry("a.jsonl"), seed=7).eval is None
    assert firsts(run(entry("a.jsonl"), seed=7).train) == order
    assert firsts(run(entry("a.jsonl"), seed=8).train) != order


def test_datasets_are_joined_in_order(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5] * 3)
    write_ids(tmp_path / "b.jsonl", [5] * 2, first=2000)
    made = run(entry("b.jsonl"), entry("a.jsonl"), shuffle_merged_datasets=False)
    assert firsts(made.train) == [2000, 2001, 1000, 1001, 1002]
    assert made.train.dataset.tolist() == [0, 0, 1, 1, 1]
    assert [made.train.provenance(i) for i in range(5)] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


def test_slices_keep_the_row_numbers_of_the_file(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5] * 10)
    made = run(entry("a.jsonl", split="train[4:6]"), shuffle_merged_datasets=False)
    assert [made.train.provenance(i) for i in range(2)] == [(0, 4), (0, 5)]


def test_two_processes_give_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_ids(tmp_path / "a.jsonl", rng.integers(1, 40, 1500).tolist())
    made = [
        run(entry("a.jsonl"), dataset_num_proc=number, sequence_len=30, dataset_prepared_path=str(number))
        for number in (1, 2)
    ]
    assert made[0].summary == made[1].summary
    assert made[0].fingerprint == made[1].fingerprint
    one, two = (Path(str(number), made[0].fingerprint, "rows.arrow").read_bytes() for number in (1, 2))
    assert one == two
    assert made[0].summary.datasets[0].too_long > 100


# --------------------------------------------------------------------------- lengths


def test_long_short_and_masked_rows_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [{"ids": [i] * n, "masked": m} for i, (n, m) in enumerate([(5, 0), (9, 0), (1, 0), (5, 5), (8, 7), (0, 0)])]
    write_jsonl(tmp_path / "a.jsonl", rows)
    made = run(entry("a.jsonl"), sequence_len=8, shuffle_merged_datasets=False)
    assert firsts(made.train) == [0, 4]
    [told] = made.summary.datasets
    assert (told.rows, told.kept, told.too_long, told.too_short, told.nothing_to_train) == (6, 2, 1, 2, 1)
    assert (told.tokens, told.trained) == (13, 5)  # 4 of the first row (its first label never counts), 1 of the last
    assert (made.summary.train_tokens, made.summary.trained_tokens, made.summary.longest) == (13, 5, 8)
    assert made.train.trained.tolist() == [4, 1]


def test_long_rows_can_be_cut(tmp_path: Path) -> None:
    rows = [{"ids": [1, 2, 3, 4, 5, 6]}, {"ids": [9] * 6, "masked": 4}, {"ids": [8]}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    made = run(entry("a.jsonl"), sequence_len=4, excess_length_strategy="truncate")
    assert [row["input_ids"].tolist() for row in made.train] == [[1, 2, 3, 4]]
    [told] = made.summary.datasets
    assert (told.truncated, told.nothing_to_train, told.too_short) == (1, 1, 1)


def test_long_rows_can_be_refused(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5, 3, 9])
    with pytest.raises(
        DataError, match=r"a.jsonl: row 2 \(line 3\): has 9 tokens, sequence_len is 8. Raise sequence_len"
    ):
        run(entry("a.jsonl"), sequence_len=8, excess_length_strategy="raise")


def test_min_sample_len(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [2, 5, 6])
    assert firsts(run(entry("a.jsonl"), min_sample_len=6).train) == [1002]


# --------------------------------------------------------------------------- evaluation


def test_evaluation_rows_have_their_own_length(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5, 5])
    write_ids(tmp_path / "t.jsonl", [5, 9, 20], first=2000)
    made = run(entry("a.jsonl"), tests=(entry("t.jsonl"),), sequence_len=8, eval_sequence_len=10)
    assert firsts(made.eval) == [2000, 2001]
    assert [(told.use, told.rows, told.kept) for told in made.summary.datasets] == [("train", 2, 2), ("eval", 3, 2)]
    assert made.summary.eval_rows == 2


def test_rows_split_off_obey_the_evaluation_length(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5, 20] * 10)
    made = run(entry("a.jsonl"), val_set_size=10, eval_sequence_len=8)
    assert made.eval is not None
    assert set(made.eval.lengths) == {5}
    gone = 10 - len(made.eval)
    assert made.summary.notes == [f"dropped {gone} evaluation rows longer than eval_sequence_len"]


# --------------------------------------------------------------------------- refusals


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"ids": [1, 2, 3]}] * 700
    rows[650] = {"wrong": 1}
    write_jsonl(tmp_path / "a.jsonl", rows)
    for number in (1, 2):
        with pytest.raises(DataError, match=r"a.jsonl: row 650 \(line 651\): there is no column ids"):
            run(entry("a.jsonl"), dataset_num_proc=number)
    assert list(tmp_path.glob("last_run_prepared/*/")) == []


class Picky(HandsThrough):
    """Finds fault only when it tokenizes."""

    def encode_many(self, rows: Any) -> Any:
        for row in rows:
            if row.input_ids[0] == 1003:
                raise DataError("cannot be tokenized")
            if row.input_ids[0] == 1004:
                "\ud800".encode()
        return super().encode_many(rows)


@pytest.mark.parametrize(
    ("first", "message"), [(1000, "row 3 .* cannot be tokenized"), (1004, "row 0 .* half of a surrogate pair")]
)
def test_a_row_that_the_tokenizer_refuses_is_named(tmp_path: Path, first: int, message: str) -> None:
    write_ids(tmp_path / "a.jsonl", [5] * 6, first=first)
    plan = plan_of(config([entry("a.jsonl")]))
    plan.tokenize.wrap(lambda _: Picky, by="test")
    with pytest.raises(DataError, match=message):
        prepare(plan, FakeTokenizer())


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"ids": [1, 2, 3], "masked": 3}] * 4, r"of 4 rows read, 4 have no trained token. To fix it, check the roles"),
        ([{"ids": [1] * 99}] * 4, r"of 4 rows read, 4 are longer than sequence_len 16. To fix it, raise sequence_len"),
        ([{"ids": [1] * 99}, {"ids": [1]}], r"1 are longer than sequence_len 16, 1 have fewer tokens"),
    ],
)
def test_a_dataset_with_nothing_to_train_is_refused_next_to_a_good_one(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    write_ids(tmp_path / "good.jsonl", [5] * 4)
    write_jsonl(tmp_path / "bad.jsonl", rows)
    with pytest.raises(NewtError, match=f"bad.jsonl: nothing to train: .*{message}"):
        run(entry("good.jsonl"), entry("bad.jsonl"), sequence_len=16)


def test_an_empty_slice_is_refused(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5] * 4)
    with pytest.raises(DataError, match=r"a.jsonl: there are no rows in train\[:0\]. Check path and split."):
        run(entry("a.jsonl", split="train[:0]"))


def test_a_split_that_takes_everything_is_refused(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5] * 4)
    with pytest.raises(NewtError, match="val_set_size 4 takes 4 of 4 rows"):
        run(entry("a.jsonl"), val_set_size=4)


class Deadly(Ids):
    """Kills the process that reads a certain row."""

    def __call__(self, row: Mapping[str, Any]) -> FormattedRow:
        if row["ids"][0] == 1600:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(row)


def test_a_killed_tokenizing_process_is_an_error_not_a_hang(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5] * 900)
    with pytest.raises(NewtError, match="a tokenizing process was killed"):
        run(entry("a.jsonl"), fmt=Deadly, dataset_num_proc=2)
    assert list(tmp_path.glob("last_run_prepared/*/")) == []


# --------------------------------------------------------------------------- rows


def test_values_that_are_none_are_left_out_but_not_those_of_tools() -> None:
    call = {"name": "f", "id": None, "arguments": {"x": None}}
    row = {
        "system": None,
        "messages": [{"role": "user", "name": None, "tool_calls": [{"function": call}]}],
        "n": [1, 2],
    }
    assert without_none(row) == {
        "messages": [{"role": "user", "tool_calls": [{"function": {"name": "f", "arguments": {"x": None}}}]}],
        "n": [1, 2],
    }


def test_packing_is_part_of_the_summary(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [6, 6, 4, 4])
    plan = plan_of(config([entry("a.jsonl")], sequence_len=10))
    plan.pack.fill(lambda lengths, seed: best_fit_decreasing(lengths, 10, seed), by="test")
    summary = prepare(plan, FakeTokenizer()).summary
    assert (summary.packed_rows, summary.packing_efficiency) == (2, 1.0)


class Doubled(HandsThrough):
    """Cuts every row into two."""

    def encode_many(self, rows: Any) -> Any:
        halves = [[Tokens(r.input_ids[:3], r.labels[:3]), Tokens(r.input_ids[3:], r.labels[3:])] for r in rows]
        return [[super(Doubled, self).encode_many([half])[0][0] for half in pair] for pair in halves]


def test_a_row_may_give_several(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [6, 6])
    plan = plan_of(config([entry("a.jsonl")], shuffle_merged_datasets=False))
    plan.tokenize.wrap(lambda _: Doubled, by="test")
    made = prepare(plan, FakeTokenizer())
    assert [made.train.provenance(i) for i in range(4)] == [(0, 0), (0, 0), (0, 1), (0, 1)]
    assert (made.summary.datasets[0].rows, made.summary.datasets[0].kept) == (2, 4)


ORPHAN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pipeline import FakeTokenizer, Ids, config, plan_of
from newt.config.core import Dataset
from newt.data.prepare import prepare
class Slow(Ids):
    def __call__(self, row):
        time.sleep(0.01)
        if row["ids"][0] == 1300:
            print("started", flush=True)
        return super().__call__(row)
prepare(plan_of(config([Dataset(path="a.jsonl")], dataset_num_proc=2), Slow), FakeTokenizer())
"""


def test_a_kill_leaves_neither_half_a_cache_nor_processes_nor_a_lock(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5] * 3000)
    command = [sys.executable, "-c", ORPHAN, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "started\n"
        group = os.getpgid(killed.pid)
        os.kill(killed.pid, signal.SIGKILL)
    # the session's group is empty as soon as the tokenizing processes have noticed
    with pytest.raises(ProcessLookupError):
        for _ in range(300):
            os.killpg(group, 0)
            time.sleep(0.1)
    assert list(tmp_path.glob("last_run_prepared/[!.]*/")) == []
    assert len(run(entry("a.jsonl"), dataset_num_proc=1).train) == 3000
    assert list(tmp_path.glob("last_run_prepared/.*")) == []


# --------------------------------------------------------------------------- rows as they are, and how they are kept


def test_rows_that_are_used_as_they_are(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [1, 5, 40])
    made = run(entry("a.jsonl"), skip_prepare_dataset=True, sequence_len=10, shuffle_merged_datasets=False)
    assert made.train.lengths.tolist() == [1, 5, 40]
    assert (made.summary.datasets[0].kept, made.summary.datasets[0].too_long) == (3, 0)


def test_such_rows_must_fit_where_they_are_packed(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.jsonl", [5, 40])
    plan = plan_of(config([entry("a.jsonl")], skip_prepare_dataset=True, sequence_len=10))
    plan.pack.fill(lambda lengths, seed: best_fit_decreasing(lengths, 10, seed), by="test")
    message = r"row 1 \(line 2\): has 40 tokens, a packed row has 10. Raise sequence_len, or remove skip_prep"
    with pytest.raises(DataError, match=message):
        prepare(plan, FakeTokenizer())


def test_such_rows_must_hold_something(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [{"ids": [1, 2]}, {"ids": []}])
    with pytest.raises(DataError, match=r"row 1 \(line 2\): has no tokens. Remove the row"):
        run(entry("a.jsonl"), skip_prepare_dataset=True)
    write_ids(tmp_path / "a.jsonl", [3, 3], masked=3)
    with pytest.raises(NewtError, match="nothing to train: of 2 rows read, 2 have no trained token"):
        run(entry("a.jsonl"), skip_prepare_dataset=True)


@pytest.mark.parametrize("held", [False, True])
def test_prepared_rows_in_several_files_are_the_same_rows(tmp_path: Path, held: bool) -> None:
    write_ids(tmp_path / "a.jsonl", range(2, 50))
    write_ids(tmp_path / "t.jsonl", [5, 6], first=5000)
    keys: dict[str, Any] = {"test_datasets": (entry("t.jsonl"),), "dataset_keep_in_memory": held}
    one, several = run(entry("a.jsonl"), **keys), run(entry("a.jsonl"), num_dataset_shards_to_save=3, **keys)
    assert several.path is not None
    names = sorted(path.name for path in several.path.glob("*.arrow"))
    assert names == [f"{stem}-0000{n}-of-00003.arrow" for stem in ("rows", "test_rows") for n in range(3)]
    for first, second in ((one.train, several.train), (one.eval, several.eval)):
        assert first is not None
        assert second is not None
        assert [row["input_ids"].tolist() for row in first] == [row["input_ids"].tolist() for row in second]
    (several.path / names[1]).write_bytes(b"")
    again = run(entry("a.jsonl"), num_dataset_shards_to_save=3, **keys)
    assert [row["input_ids"].tolist() for row in again.train] == [row["input_ids"].tolist() for row in one.train]
