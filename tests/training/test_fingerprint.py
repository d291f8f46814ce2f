from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.training.tiny import Rows, config

from newt.training.fingerprint import data_fingerprint, differences, fingerprint


def test_names_of_what_differs(tmp_path: Path) -> None:
    data = Rows(5)
    first = fingerprint(config(tmp_path, seed=1), data, 1)
    assert differences(first, fingerprint(config(tmp_path / "other", seed=1, num_epochs=5), data, 1)) == []
    other = fingerprint(config(tmp_path, seed=2, micro_batch_size=1), Rows(5, seed=3), 2)
    assert differences(first, other) == ["micro_batch_size", "seed", "number of processes", "training data"]


class FullyTrained(Rows):
    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"input_ids": self.ids[index], "labels": self.ids[index]}


@pytest.mark.parametrize("what", ["ids", "labels", "order"])
def test_rows_are_told_apart(what: str) -> None:
    changed = Rows(5)
    changed.lengths[:] = changed.lengths[0]
    same_lengths = Rows(5)
    same_lengths.lengths[:] = changed.lengths
    assert data_fingerprint(changed) == data_fingerprint(same_lengths)
    if what == "ids":
        changed.ids[3][-1] += 1
    elif what == "order":
        changed.ids[0], changed.ids[1] = changed.ids[1], changed.ids[0]
    else:
        changed.__class__ = FullyTrained
    assert data_fingerprint(changed) != data_fingerprint(same_lengths)
