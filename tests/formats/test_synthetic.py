"""Random tokens: the same for the same seed, within their range."""

import numpy as np
import pytest
from tests.formats.seen import byte_tokenizer, make_format, row_tokenizer
from tests.helpers import make_config, make_run

from newt.config.core import Data
from newt.data.preflight import problems
from newt.data.prepare import prepare
from newt.support.errors import DataError, NewtError

KEYS = {"length": 5, "sequence_length": 8, "min_input_id": 10, "max_input_id": 50}


def rows(**keys):
    """The token rows of a made-up dataset."""
    fmt = make_format("_synthetic", {**KEYS, **keys}, seed=7)
    encoder = row_tokenizer(fmt)
    return [one for row in fmt.source(byte_tokenizer()) for one in encoder.encode(fmt(row))]


def test_random_ids_are_all_trained():
    made = rows()
    assert [len(row.input_ids) for row in made] == [8] * 5
    assert all((row.labels == row.input_ids).all() for row in made)
    drawn = np.concatenate([row.input_ids for row in made])
    assert drawn.min() >= 10
    assert drawn.max() < 50


def test_the_seed_decides():
    expected = np.random.default_rng(3).integers(10, 50, size=(5, 8))
    assert np.array([row.input_ids for row in rows(seed=3)]).tolist() == expected.tolist()
    run = np.random.default_rng(7).integers(10, 50, size=(5, 8))  # the seed of the run
    assert np.array([row.input_ids for row in rows()]).tolist() == run.tolist()


def test_the_defaults_are_the_run_s():
    fmt = make_format("_synthetic", {"length": 2, "min_input_id": 3}, sequence_len=16)
    source = fmt.source(byte_tokenizer())
    assert [len(row["input_ids"]) for row in source] == [16, 16]
    assert max(max(row["input_ids"]) for row in source) < len(byte_tokenizer())


@pytest.mark.parametrize("keys", [{"max_input_id": 10_000}, {"min_input_id": 5_000, "max_input_id": None}])
def test_ids_outside_of_the_vocabulary(keys):
    with pytest.raises(NewtError, match="the ids must lie below"):
        make_format("_synthetic", {**KEYS, **keys}).source(byte_tokenizer())


def test_rows_of_others_are_refused():
    with pytest.raises(DataError, match="makes its own rows"):
        make_format("_synthetic")({"text": "x"})


def test_rows_are_prepared_without_a_file(tmp_path):
    run = make_run(
        datasets=[{"type": "_synthetic", **KEYS}],
        dataset_prepared_path=str(tmp_path),
        dataset_num_proc=1,
        shuffle_merged_datasets=False,
    )
    prepared = prepare(run.data_plan(), byte_tokenizer())
    assert [row["input_ids"].tolist() for row in map(prepared.train.__getitem__, range(5))] == [
        row.input_ids.tolist() for row in rows(seed=42)
    ]
    assert (prepared.summary.datasets[0].path, prepared.summary.datasets[0].type) == ("synthetic", "_synthetic")
    assert prepare(run.data_plan(), byte_tokenizer()).fingerprint == prepared.fingerprint


def test_the_check_looks_for_no_file():
    cfg = make_config(datasets=[{"type": "_synthetic", **KEYS}])
    assert problems(cfg[Data].datasets[0], "datasets.0", cfg) == []
