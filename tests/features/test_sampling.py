"""Orders of rows."""

import pytest
from tests.helpers import messages

TWO = [{"path": "a/b", "type": "alpaca"}, {"path": "c/d", "type": "alpaca"}]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"group_by_length": True, "curriculum_sampling": True}, "group_by_length: cannot be used with curriculum"),
        ({"group_by_length": True, "sample_packing": True}, "group_by_length: has no effect with sample_packing"),
        ({"curriculum_sampling": True, "datasets": TWO}, "curriculum_sampling: keeps the order of shuffled rows"),
        ({"group_by_length": True}, "group_by_length: is known, but Newt does not support it yet."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in messages(**keys)), messages(**keys)


@pytest.mark.parametrize("keys", [{"group_by_length": False}, {"curriculum_sampling": False}])
def test_off_is_accepted(keys):
    assert messages(**keys) == []


def test_a_kept_order_of_several_datasets():
    (message,) = messages(curriculum_sampling=True, datasets=TWO, shuffle_merged_datasets=False)
    assert message == "curriculum_sampling: is known, but Newt does not support it yet."
