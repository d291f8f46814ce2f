"""Checkpoints on demand."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    "keys",
    [
        {"dynamic_checkpoint": {"enabled": False, "check_interval": 5}},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("block", "names"),
    [
        ({}, ["newt_checkpoint.save", "axolotl_checkpoint.save"]),
        ({"trigger_file_path": "save_now"}, ["save_now"]),
        ({"trigger_file_path": "/somewhere/save_now"}, ["/somewhere/save_now"]),
    ],
)
def test_which_file_is_looked_for(tmp_path, block, names):
    run = make_run(output_dir=str(tmp_path), dynamic_checkpoint={"enabled": True, "check_interval": 5, **block})
    (make,) = run.train_plan().callbacks
    trigger = make()
    assert trigger.paths == [tmp_path / name for name in names]
    assert trigger.interval == 5


def test_nothing_is_looked_for_when_it_is_off():
    assert make_run(dynamic_checkpoint={"enabled": False}).train_plan().callbacks == []
