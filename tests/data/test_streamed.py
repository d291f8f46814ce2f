"""The data of a run that streams: training rows as a stream, evaluation rows prepared."""

import datasets
import pytest
from tests.data.pipeline import FakeTokenizer, config, plan_of, write_ids

from newt.config.core import Dataset
from newt.data.prepare import find_prepared
from newt.data.sources import read
from newt.data.streamed import NOT_COMPARED, prepare_streamed
from newt.support.errors import DataError


@pytest.fixture
def plan(tmp_path):
    train = write_ids(tmp_path / "train.jsonl", [4] * 20)
    test = write_ids(tmp_path / "test.jsonl", [5] * 3)
    entries = [Dataset(path=str(train))], [Dataset(path=str(test), split="train")]
    plan = plan_of(config(*entries, sequence_len=16, dataset_prepared_path=str(tmp_path / "prepared")))
    plan.stream.fill(8, by="test")
    return plan


def test_evaluation_rows_are_prepared_and_training_rows_are_not(plan, tmp_path):
    found = prepare_streamed(plan, FakeTokenizer())
    assert (len(found.eval), found.summary.eval_rows) == (3, 3)
    assert NOT_COMPARED in found.summary.notes
    assert [entry.use for entry in found.summary.datasets] == ["train", "eval"]
    assert found.summary.datasets[0].rows == len(found.train.first.rows) == 8
    assert found.path.parent == tmp_path / "prepared"
    assert found.examples is not None and len(found.examples) == 3
    assert len(find_prepared(plan, FakeTokenizer()).train) == 0


def test_without_evaluation_rows_nothing_is_written(plan, tmp_path):
    alone = plan_of(config([plan.formats[0].entry], sequence_len=16, dataset_prepared_path=str(tmp_path / "prepared")))
    alone.stream.fill(8, by="test")
    found = prepare_streamed(alone, FakeTokenizer())
    assert (found.eval, found.path) == (None, None)
    assert len(found.examples) == 8
    assert not (tmp_path / "prepared").exists()


# --------------------------------------------------------------------------- of the Hub


def hub(monkeypatch, rows, seen):
    def load_dataset(path, name=None, **keys):
        seen.append((path, name, keys))
        return datasets.IterableDatasetDict({"train": datasets.IterableDataset.from_generator(rows)})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


def test_a_dataset_of_the_hub_is_fetched_row_by_row(monkeypatch):
    seen, read_rows = [], []

    def rows():
        for number in range(1000):
            read_rows.append(number)
            yield {"n": number, "empty": None}

    hub(monkeypatch, rows, seen)
    entry = Dataset(path="org/texts", name="en")
    source = read(entry, default_split="train", cfg=config([entry]), stream=True)
    chunk = next(source.chunks(5))
    assert chunk.rows() == [{"n": number} for number in range(5)]
    assert len(read_rows) < 10
    assert (seen[0][:2], seen[0][2]["streaming"]) == (("org/texts", "en"), True)


def test_a_broken_connection_is_told_in_one_line(monkeypatch):
    def rows():
        yield {"n": 0}
        raise ConnectionError("the server went away")

    hub(monkeypatch, rows, [])
    entry = Dataset(path="org/texts")
    with pytest.raises(DataError, match=r"org/texts: .*the server went away") as told:
        list(read(entry, default_split="train", cfg=config([entry]), stream=True))
    assert len(str(told.value).splitlines()) == 1
