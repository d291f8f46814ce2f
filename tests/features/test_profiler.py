"""The profiler."""

import pytest
from tests.helpers import complaints, make_run


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"profiler_steps_start": 5}, "has no effect: profiler_steps is not set"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"profiler_steps": 3, "profiler_steps_start": 5},
        {"profiler_steps_start": 0},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_which_steps_are_recorded(tmp_path):
    keys = {"profiler_steps": 3, "profiler_steps_start": 5, "output_dir": str(tmp_path)}
    (make,) = make_run(**keys).train_plan().callbacks
    profiling = make()
    assert (profiling.start, profiling.end, profiling.output_dir) == (5, 8, tmp_path)
    assert make_run().train_plan().callbacks == []
