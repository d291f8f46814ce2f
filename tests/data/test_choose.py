"""Which of the written rows are trained and evaluated: shards, duplicates, leakage, weights, order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.pipeline import FakeTokenizer, Ids, config, plan_of, write_ids, write_jsonl

from newt.config.core import Dataset
from newt.data.prepare import Datasets, prepare
from newt.data.rows import TokenRows
from newt.support.errors import DataError, NewtError


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def entry(path: str, **keys: Any) -> Dataset:
    return Dataset(path=path, type="ids", **keys)


def run(*entries: Dataset, tests: tuple[Dataset, ...] = (), keep_order: bool = False, **keys: Any) -> Datasets:
    plan = plan_of(config(entries, tests, **keys))
    plan.keep_order = keep_order
    return prepare(plan, FakeTokenizer())


def firsts(rows: TokenRows | None) -> list[int]:
    assert rows is not None
    return [int(row["input_ids"][0]) for row in rows]


def write(path: str, ids: list[int], masked: int = 0) -> None:
    """Rows of three tokens, of which the first is given: equal ids are equal rows."""
    write_jsonl(Path(path), [{"ids": [first, 7, 8], "masked": masked} for first in ids])


# --------------------------------------------------------------------------- shards


class Watched(Ids):
    """Remembers the rows that it has seen."""

    seen: list[int] = []

    def __call__(self, row: Any) -> Any:
        self.seen.append(row["ids"][0])
        return super().__call__(row)


def test_a_shard_is_a_part_of_the_shuffled_rows_and_the_others_are_not_even_formatted() -> None:
    write_ids(Path("a.jsonl"), [5] * 600)
    shuffled = (1000 + np.random.default_rng(42).permutation(600)).tolist()
    Watched.seen.clear()
    plan = plan_of(config([entry("a.jsonl", shards=4, shards_idx=1)], shuffle_merged_datasets=False), Watched)
    made = prepare(plan, FakeTokenizer())
    assert firsts(made.train) == shuffled[150:300]
    assert Watched.seen == sorted(shuffled[150:300])
    assert [made.train.provenance(i)[1] for i in range(150)] == [first - 1000 for first in shuffled[150:300]]
    assert (made.summary.datasets[0].rows, made.summary.train_rows) == (150, 150)


def test_all_shards_together_are_all_rows() -> None:
    write_ids(Path("a.jsonl"), [5] * 20)
    found = [firsts(run(entry("a.jsonl", shards=3, shards_idx=i)).train) for i in range(3)]
    assert [len(rows) for rows in found] == [7, 7, 6]
    assert sorted(np.concatenate(found).tolist()) == list(range(1000, 1020))


def test_a_shard_of_several_splits_of_which_some_rows_are_dropped() -> None:
    write_ids(Path("d/train.jsonl"), [5, 99, 5, 5, 5, 5])
    write_ids(Path("d/test.jsonl"), [5, 5, 99, 5], first=2000)
    every = [1000, 1001, 1002, 1003, 1004, 1005, 2000, 2001, 2002, 2003]
    shard = np.random.default_rng(42).permutation(10)[:5]
    expected = [every[i] for i in shard if every[i] not in (1001, 2002)]
    made = run(entry("d", split="train+test", shards=2), sequence_len=50, shuffle_merged_datasets=False)
    assert firsts(made.train) == expected
    kept = run(entry("d", split="train+test", shards=2), sequence_len=50, keep_order=True)
    assert firsts(kept.train) == sorted(expected)


def test_an_empty_shard_is_refused() -> None:
    write_ids(Path("a.jsonl"), [5] * 2)
    with pytest.raises(DataError, match=r"a.jsonl: shards 3 cuts 2 rows: the part is empty. Lower shards."):
        run(entry("a.jsonl", shards=3, shards_idx=2))


def test_preprocess_shards_changes_nothing() -> None:
    write_ids(Path("a.jsonl"), np.random.default_rng(0).integers(3, 60, 700).tolist())
    plain, pieces = (run(entry("a.jsonl", preprocess_shards=n), sequence_len=50) for n in (None, 3))
    assert [row["input_ids"].tolist() for row in plain.train] == [row["input_ids"].tolist() for row in pieces.train]
    assert plain.summary == pieces.summary


def test_one_part_of_the_joined_datasets() -> None:
    write_ids(Path("a.jsonl"), [5] * 8)
    write_ids(Path("b.jsonl"), [5] * 3, first=2000)
    merged = firsts(run(entry("a.jsonl"), entry("b.jsonl")).train)
    parts = [
        firsts(run(entry("a.jsonl"), entry("b.jsonl"), dataset_shard_num=2, dataset_shard_idx=i).train) for i in (0, 1)
    ]
    assert parts == [merged[:6], merged[6:]]
    with pytest.raises(NewtError, match="dataset_shard_num 20 cuts 11 rows: part 15 is empty"):
        run(entry("a.jsonl"), entry("b.jsonl"), dataset_shard_num=20, dataset_shard_idx=15)


# --------------------------------------------------------------------------- order


def test_the_seed_is_42_unless_it_is_given() -> None:
    write_ids(Path("a.jsonl"), [5] * 20)
    assert firsts(run(entry("a.jsonl")).train) == firsts(run(entry("a.jsonl"), seed=42).train)


def test_a_kept_order_holds_for_several_datasets_and_for_the_split() -> None:
    write_ids(Path("a.jsonl"), [5] * 10)
    write_ids(Path("b.jsonl"), [5] * 10, first=2000)
    every = [*range(1000, 1010), *range(2000, 2010)]
    assert firsts(run(entry("a.jsonl"), entry("b.jsonl"), keep_order=True).train) == every
    made = run(entry("a.jsonl"), entry("b.jsonl"), keep_order=True, val_set_size=8)
    assert firsts(made.train) == sorted(firsts(made.train))
    assert sorted(firsts(made.train) + firsts(made.eval)) == every
    assert min(firsts(made.eval)) < 2000 <= max(firsts(made.eval))


# --------------------------------------------------------------------------- duplicates and leakage


def test_duplicates_are_counted_and_kept() -> None:
    write("a.jsonl", [1, 2, 1, 3, 1])
    write("b.jsonl", [3, 4])
    made = run(entry("a.jsonl"), entry("b.jsonl"), shuffle_merged_datasets=False)
    assert firsts(made.train) == [1, 2, 1, 3, 1, 3, 4]
    assert [(told.duplicates, told.deduplicated, told.kept) for told in made.summary.datasets] == [(2, 0, 5), (1, 0, 2)]


def test_deduplication_keeps_the_first() -> None:
    write("a.jsonl", [1, 2, 1, 3, 1])
    write("b.jsonl", [3, 4])
    made = run(entry("a.jsonl"), entry("b.jsonl"), shuffle_merged_datasets=False, dataset_exact_deduplication=True)
    assert firsts(made.train) == [1, 2, 3, 4]
    assert made.train.provenance(2) == (0, 3)
    first, second = made.summary.datasets
    assert (first.duplicates, first.deduplicated, first.kept, first.tokens, first.trained) == (2, 2, 3, 9, 6)
    assert (second.rows, second.deduplicated, second.kept, second.dropped) == (2, 1, 1, 1)


def test_rows_with_other_labels_are_no_duplicates() -> None:
    write_jsonl(Path("a.jsonl"), [{"ids": [1, 2, 3]}, {"ids": [1, 2, 3], "masked": 2}, {"ids": [1, 2, 3]}])
    made = run(entry("a.jsonl"), dataset_exact_deduplication=True)
    assert len(made.train) == 2


def test_two_processes_find_the_same_duplicates() -> None:
    write("a.jsonl", np.random.default_rng(0).integers(0, 400, 1500).tolist())
    made = [run(entry("a.jsonl"), dataset_exact_deduplication=True, dataset_num_proc=n) for n in (1, 2)]
    assert made[0].summary == made[1].summary
    assert firsts(made[0].train) == firsts(made[1].train)
    assert len(set(firsts(made[0].train))) == len(made[0].train)


def test_evaluation_rows_that_are_trained_are_named() -> None:
    write("a.jsonl", [1, 2, 3, 4])
    write("t.jsonl", [9, 2, 8, 4, 7])
    summary = run(entry("a.jsonl"), tests=(entry("t.jsonl"),)).summary
    assert summary.leaked == 2
    [note] = summary.notes
    assert note.startswith("leakage: 2 of 5 evaluation rows are training rows as well (t.jsonl rows 1, 3): ")
    assert note.endswith("Set dataset_exact_deduplication: true to train without them.")
    assert run(entry("a.jsonl"), tests=(entry("a.jsonl"),)).summary.leaked == 4


def test_a_leak_is_one_whatever_is_trained_of_the_row() -> None:
    write("a.jsonl", [1, 2])
    write("t.jsonl", [2], masked=2)
    assert run(entry("a.jsonl"), tests=(entry("t.jsonl"),)).summary.leaked == 1


def test_duplicates_on_both_sides_of_the_split_are_a_leak() -> None:
    write("a.jsonl", [*range(50), *range(50)])
    made = run(entry("a.jsonl"), val_set_size=30)
    assert made.summary.leaked == sum(first in firsts(made.train) for first in firsts(made.eval)) > 0
    assert "and" in made.summary.notes[0]
    clean = run(entry("a.jsonl"), val_set_size=15, dataset_exact_deduplication=True)
    assert (clean.summary.leaked, clean.summary.notes) == (0, [])
    assert set(firsts(clean.train)).isdisjoint(firsts(clean.eval))


def test_deduplication_does_not_train_what_is_evaluated() -> None:
    write("a.jsonl", [1, 2, 3, 4])
    write("t.jsonl", [4, 2, 8, 8])
    made = run(entry("a.jsonl"), tests=(entry("t.jsonl"),), dataset_exact_deduplication=True)
    assert sorted(firsts(made.train)) == [1, 3]
    assert firsts(made.eval) == [4, 2, 8]
    assert made.summary.notes == ["removed 2 training rows whose tokens are evaluation rows as well"]
    write("t.jsonl", [1, 2, 3, 4])
    with pytest.raises(NewtError, match="all 4 training rows are evaluation rows as well: nothing is left to train"):
        run(entry("a.jsonl"), tests=(entry("t.jsonl"),), dataset_exact_deduplication=True)


# --------------------------------------------------------------------------- weights


def test_a_weight_says_how_often_a_row_is_used() -> None:
    write_ids(Path("a.jsonl"), [5] * 10)
    write_ids(Path("b.jsonl"), [5] * 10, first=2000)
    made = run(entry("a.jsonl", weight=2), entry("b.jsonl", weight=0.3), shuffle_merged_datasets=False)
    few = sorted(2000 + np.random.default_rng((42, 1)).permutation(10)[:3])
    assert firsts(made.train) == [*range(1000, 1010), *range(1000, 1010), *few]
    assert [told.used for told in made.summary.datasets] == [20, 3]
    assert made.summary.train_rows == 23


def test_weighed_rows_are_shuffled_again() -> None:
    write_ids(Path("a.jsonl"), [5] * 10)
    write_ids(Path("b.jsonl"), [5] * 10, first=2000)
    merged = np.array([*range(1000, 1010), *range(2000, 2010)])[np.random.default_rng(42).permutation(20)]
    first, second = merged[merged < 2000], merged[merged >= 2000]
    few = second[np.sort(np.random.default_rng((42, 1)).permutation(10)[:3])]
    expected = np.concatenate([first, first, few])[np.random.default_rng(42).permutation(23)]
    assert firsts(run(entry("a.jsonl", weight=2), entry("b.jsonl", weight=0.3)).train) == expected.tolist()


def test_weights_of_one_change_nothing() -> None:
    write_ids(Path("a.jsonl"), [5] * 10)
    write_ids(Path("b.jsonl"), [5] * 10, first=2000)
    weighed = run(entry("a.jsonl", weight=1.0), entry("b.jsonl"))
    assert firsts(weighed.train) == firsts(run(entry("a.jsonl"), entry("b.jsonl")).train)


def test_weights_as_parts_of_the_rows() -> None:
    write_ids(Path("a.jsonl"), [5] * 100)
    write_ids(Path("b.jsonl"), [5] * 300, first=2000)
    made = run(entry("a.jsonl", weight=3), entry("b.jsonl", weight=1), weight_by="rows")
    assert [told.used for told in made.summary.datasets] == [300, 100]
    assert set(Counter(first for first in firsts(made.train) if first < 2000).values()) == {3}
    equal = run(entry("a.jsonl"), entry("b.jsonl"), weight_by="rows")
    assert [told.used for told in equal.summary.datasets] == [200, 200]


def test_weights_as_parts_of_the_tokens() -> None:
    rng = np.random.default_rng(0)
    write_ids(Path("a.jsonl"), rng.integers(2, 40, 100).tolist())
    write_ids(Path("b.jsonl"), rng.integers(40, 90, 300).tolist(), first=2000)
    total = run(entry("a.jsonl"), entry("b.jsonl")).summary.train_tokens
    made = run(entry("a.jsonl", weight=1), entry("b.jsonl", weight=4), weight_by="tokens")
    assert [told.used_tokens for told in made.summary.datasets] == pytest.approx([total / 5, total * 4 / 5], abs=45)


def test_repeated_rows_are_not_split_between_training_and_evaluation() -> None:
    write_ids(Path("a.jsonl"), [5] * 20)
    made = run(entry("a.jsonl", weight=3), val_set_size=5)
    assert (len(made.train), len(made.eval or ()), made.summary.leaked) == (45, 5, 0)
    assert set(firsts(made.train)).isdisjoint(firsts(made.eval))


def test_a_weight_that_uses_nothing_is_refused() -> None:
    write_ids(Path("a.jsonl"), [5] * 20)
    write_ids(Path("b.jsonl"), [5] * 20, first=2000)
    with pytest.raises(NewtError, match=r"b.jsonl: weight 0.001 uses none of its 20 rows. Raise it."):
        run(entry("a.jsonl"), entry("b.jsonl", weight=0.001))
