"""Blocks of a stream: what they hold, how they are mixed, and that they can be taken up again anywhere."""

import json
from collections import Counter
from contextlib import closing
from itertools import islice, pairwise

import numpy as np
import pytest
from tests.data.pipeline import FakeTokenizer, config, plan_of, write_ids, write_jsonl

from newt.config.core import Dataset
from newt.data.block import Position
from newt.data.pack import best_fit_decreasing
from newt.data.stream import Stream
from newt.support.errors import DataError, NewtError


def stream(*paths, buffer=8, pack=None, weights=(None,) * 9, entries=None, **keys):
    """A stream of files that ``write_ids`` wrote."""
    entries = entries or [Dataset(path=str(path), weight=weight) for path, weight in zip(paths, weights, strict=False)]
    plan = plan_of(config(entries, sequence_len=16, **keys))
    plan.stream.fill(buffer, by="test")
    if pack:
        plan.pack.fill(pack, by="test")
    return Stream(plan, FakeTokenizer())


def taken(found, count, position=None):
    """The first samples from a position on, as lists of the first ids of their rows, and the last position."""
    with closing(found.samples(position or found.start)) as samples:
        drawn = list(islice(samples, count))
    return [[int(row["input_ids"][0]) for row in sample] for sample, *_ in drawn], drawn[-1][1]


def flat(samples):
    return [row for sample in samples for row in sample]


@pytest.fixture
def ten(tmp_path):
    return write_ids(tmp_path / "ten.jsonl", [4] * 10, first=1000)


@pytest.fixture
def thirty(tmp_path):
    return write_ids(tmp_path / "thirty.jsonl", [4] * 30, first=2000)


def test_a_pass_has_every_row_once_and_the_next_is_shuffled_anew(thirty):
    samples, _ = taken(stream(thirty), 60)
    first, second = flat(samples[:30]), flat(samples[30:])
    assert sorted(first) == sorted(second) == list(range(2000, 2030))
    assert first != second


def test_rows_are_shuffled_inside_the_buffer(thirty):
    rows = flat(taken(stream(thirty, buffer=10), 30)[0])
    assert rows[:10] != sorted(rows[:10])
    assert sorted(rows[:10]) == list(range(2000, 2010))


def test_without_shuffling_the_order_of_the_file_stays(thirty):
    assert flat(taken(stream(thirty, shuffle_merged_datasets=False), 40)[0]) == [*range(2000, 2030), *range(2000, 2010)]


def test_the_seed_alone_decides(thirty):
    one, again, other = (flat(taken(stream(thirty, seed=seed), 50)[0]) for seed in (1, 1, 2))
    assert one == again != other


def test_several_datasets_are_interleaved_and_each_row_comes_once(ten, thirty):
    rows = flat(taken(stream(ten, thirty), 40)[0])
    assert sorted(rows) == [*range(1000, 1010), *range(2000, 2030)]
    assert 0 < sum(row < 2000 for row in rows[:10]) < 10


def test_several_unshuffled_datasets_keep_their_own_order(ten, thirty):
    rows = flat(taken(stream(ten, thirty, shuffle_merged_datasets=False), 40)[0])
    for dataset in (rows,):
        assert all(a < b for a, b in pairwise(row for row in dataset if row < 2000))
        assert all(a < b for a, b in pairwise(row for row in dataset if row >= 2000))


def test_weights_are_the_shares_of_the_rows(ten, thirty):
    rows = flat(taken(stream(ten, thirty, weights=(3, 1), buffer=50), 2000)[0])
    counts = Counter(row < 2000 for row in rows)
    assert counts[True] / 2000 == pytest.approx(0.75, abs=0.03)
    # The small dataset begins again on its own: 1,500 draws from 10 rows.
    assert set(Counter(row for row in rows if row < 2000).values()) <= set(range(140, 161))


def test_weights_by_tokens(tmp_path):
    short, long = write_ids(tmp_path / "a.jsonl", [2] * 40, 1000), write_ids(tmp_path / "b.jsonl", [16] * 40, 2000)
    found = stream(short, long, weights=(1, 1), weight_by="tokens", buffer=50)
    rows = flat(taken(found, 4000)[0])
    tokens = sum(2 for row in rows if row < 2000), sum(16 for row in rows if row >= 2000)
    assert tokens[0] / sum(tokens) == pytest.approx(0.5, abs=0.04)


def test_weights_by_tokens_hold_in_the_first_block_too(tmp_path):
    short, long = write_ids(tmp_path / "a.jsonl", [2] * 40, 1000), write_ids(tmp_path / "b.jsonl", [16] * 40, 2000)
    rows = flat(taken(stream(short, long, weights=(1, 1), weight_by="tokens", buffer=3000), 2500)[0])
    tokens = sum(2 for row in rows if row < 2000), sum(16 for row in rows if row >= 2000)
    assert tokens[0] / sum(tokens) == pytest.approx(0.5, abs=0.07)


def test_packed_bins_hold_every_row_once(tmp_path):
    lengths = [2, 9, 5, 3, 12, 7, 4, 8, 15, 6] * 3
    path = write_ids(tmp_path / "rows.jsonl", lengths, first=0)
    found = stream(path, buffer=30, pack=lambda lengths, seed: best_fit_decreasing(lengths, 16, seed))
    samples, _ = taken(found, len(found.first.bins))
    assert sorted(flat(samples)) == list(range(30))
    sizes = [sum(lengths[row] for row in sample) for sample in samples]
    assert max(sizes) <= 16
    assert len(sizes) <= sum(lengths) // 16 + 2


def test_unshuffled_bins_stand_in_the_order_of_their_first_rows(tmp_path):
    path = write_ids(tmp_path / "rows.jsonl", [3, 9, 15, 5, 2, 12, 7] * 2, first=0)
    pack = lambda lengths, seed: best_fit_decreasing(lengths, 16, seed)  # noqa: E731
    samples, _ = taken(stream(path, buffer=14, pack=pack, shuffle_merged_datasets=False), 5)
    firsts = [min(sample) for sample in samples]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("weights", [(None, None), (2, 1)], ids=["passes", "weights"])
@pytest.mark.parametrize("stop", [1, 7, 8, 9, 23, 40, 41, 77])
def test_taken_up_anywhere_it_goes_on_the_same(ten, thirty, weights, stop):
    whole, _ = taken(stream(ten, thirty, weights=weights), 120)
    before, position = taken(stream(ten, thirty, weights=weights), stop)
    stored = Position.from_dict(json.loads(json.dumps(position.to_dict())))
    after, _ = taken(stream(ten, thirty, weights=weights), 120 - stop, stored)
    assert before + after == whole


def test_the_first_blocks_are_small_and_grow(tmp_path, monkeypatch):
    monkeypatch.setattr("newt.data.stream.FIRST_TOKENS", 100)
    path = write_ids(tmp_path / "rows.jsonl", [10] * 600)
    found = stream(path, buffer=10_000)
    blocks, position = [], found.start
    for _ in range(4):
        with closing(found.samples(position)) as samples:
            _, _, position = next(samples)
        blocks.append(position.counts[0]["rows"])
    # 1 + 2 + 4 + 8 rows are the first to have 100 tokens; 200, 400 and 800 after that.
    assert np.diff([0, *blocks]).tolist() == [15, 31, 63, 127]


def test_memory_is_bounded_by_tokens_too(tmp_path, monkeypatch):
    monkeypatch.setattr("newt.data.block.MOST_TOKENS", 50)
    found = stream(write_ids(tmp_path / "rows.jsonl", [16] * 100), buffer=10_000)
    assert sum(len(row["input_ids"]) for row in found.first.rows) < 50 + 16 * 4


# --------------------------------------------------------------------------- what is dropped, and what is refused


def test_dropped_rows_are_counted(tmp_path):
    path = write_ids(tmp_path / "rows.jsonl", [1, 4, 99, 4])
    summary = stream(path).summary
    (entry,) = summary.datasets
    assert (entry.rows, entry.kept, entry.too_short, entry.too_long) == (4, 2, 1, 1)
    assert (entry.tokens, entry.trained, summary.train_rows) == (8, 6, 2)
    assert "4 rows" in summary.notes[0]


def test_truncate_and_raise(tmp_path):
    path = write_ids(tmp_path / "rows.jsonl", [4, 99])
    assert stream(path, excess_length_strategy="truncate").summary.datasets[0].truncated == 1
    with pytest.raises(DataError, match=r"rows.jsonl: row 1 \(line 2\): has 99 tokens, sequence_len is 16"):
        _ = stream(path, excess_length_strategy="raise").first


def test_a_bad_row_names_its_line_after_the_blocks_before_it(tmp_path):
    path = write_ids(tmp_path / "rows.jsonl", [4] * 20)
    path.write_text(path.read_text() + '{"ids": [1, 2\n')
    with closing((found := stream(path, buffer=10)).samples(found.start)) as samples:
        assert len(list(islice(samples, 20))) == 20
        with pytest.raises(DataError, match=r"rows.jsonl:21: is not valid JSON"):
            next(samples)


@pytest.mark.parametrize(
    ("lengths", "text"),
    [
        ([1, 1], "nothing to train: of 2 rows read, 2 are too short"),
        ([99], "nothing to train: of 1 rows read, 1 are too long"),
    ],
)
def test_a_dataset_without_anything_to_train(ten, tmp_path, lengths, text):
    with pytest.raises(NewtError, match=text):
        _ = stream(ten, write_ids(tmp_path / "bad.jsonl", lengths)).first


def test_masked_rows_only(tmp_path):
    path = write_ids(tmp_path / "rows.jsonl", [4] * 3, masked=4)
    with pytest.raises(NewtError, match="3 have no trained token"):
        _ = stream(path).first


def test_a_dataset_without_rows(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [])
    path.write_text("\n\n")
    with pytest.raises(DataError, match=r"rows.jsonl: there are no rows in train. Check path, split and skip."):
        _ = stream(path).first


# --------------------------------------------------------------------------- identity


def test_the_identity_follows_the_rows_and_the_settings(ten, thirty, tmp_path):
    moved = tmp_path / "moved.jsonl"
    moved.write_text(ten.read_text())
    same = stream(ten).identity
    assert same == stream(ten).identity == stream(moved).identity
    others = [stream(thirty), stream(ten, buffer=4), stream(ten, shuffle_merged_datasets=False)]
    assert len({same, *(other.identity for other in others)}) == 4
