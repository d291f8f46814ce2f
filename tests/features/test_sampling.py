"""Orders of rows."""

import numpy as np
import pytest
from tests.helpers import make_run, messages

TWO = [{"path": "a/b", "type": "alpaca"}, {"path": "c/d", "type": "alpaca"}]
ROWS = np.arange(1, 101, dtype=np.int32)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"group_by_length": True, "curriculum_sampling": True}, "group_by_length: cannot be used with curriculum"),
        ({"group_by_length": True, "sample_packing": True}, "group_by_length: has no effect with sample_packing"),
        ({"curriculum_sampling": True, "sample_packing": True}, "curriculum_sampling: would be lost: sample_packing"),
        (
            {"curriculum_sampling": True, "datasets": TWO, "shuffle_merged_datasets": True},
            "curriculum_sampling: keeps the order of shuffled rows: shuffle_merged_datasets is on.",
        ),
        (
            {"curriculum_sampling": True, "datasets": TWO, "shuffle_before_merging_datasets": True},
            "curriculum_sampling: keeps the order of shuffled rows: shuffle_before_merging_datasets is on.",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in messages(**keys)), messages(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"group_by_length": False},
        {"curriculum_sampling": False},
        {"group_by_length": True},
        {"curriculum_sampling": True, "datasets": TWO},
        {"curriculum_sampling": True, "datasets": TWO, "shuffle_merged_datasets": False},
    ],
)
def test_accepted(keys):
    assert messages(**keys) == []


def test_a_curriculum_is_not_shuffled_by_the_merge_nor_by_the_sampler():
    run = make_run(curriculum_sampling=True, datasets=TWO)
    assert run.data_plan().keep_order
    assert not make_run().data_plan().keep_order
    assert not make_run(curriculum_sampling=True, shuffle_merged_datasets=True).data_plan().keep_order
    sampler = run.train_plan().batches.get()(ROWS, 4, seed=1)
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        assert [pick.rows[0] for batch in sampler for pick in batch] == list(range(100))


def test_length_groups_fill_the_slot_of_the_sampler():
    run = make_run(group_by_length=True)
    assert not run.data_plan().keep_order
    sampler = run.train_plan().batches.get()(ROWS, 4, seed=1, packer=None, drop_last=False)
    spread = [max(pick.rows[0] for pick in batch) - min(pick.rows[0] for pick in batch) for batch in sampler]
    assert sorted(spread)[len(spread) // 2] < 20  # at random: about 60
    assert make_run(group_by_length=True, sample_packing=True).train_plan().batches.get() is None
