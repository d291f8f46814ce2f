"""TensorBoard."""

import pytest
from tests.helpers import complaints
from tests.training.tracked import callback_of, drive

from newt.extend import Facts


@pytest.mark.parametrize(
    "keys",
    [
        {"use_tensorboard": False},
        {"use_tensorboard": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


def test_event_files_and_their_continuation(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    drive(callback_of(tmp_path, use_tensorboard=True), tmp_path, end=3)
    # The run goes on from step 2: what was written of step 3 is hidden, because step 3 comes again.
    drive(callback_of(tmp_path, use_tensorboard=True), tmp_path, start=2, end=4)
    events = accumulator.EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    losses = [(event.step, round(event.value, 4)) for event in events.Scalars("train/loss")]
    assert losses == [(1, 1.0), (2, 0.5), (3, 0.3333), (4, 0.25)]
    assert [event.step for event in events.Scalars("eval/loss")][-1] == 4
    texts = events.Tags()["tensors"]
    assert "config/text_summary" in texts
    assert "answers/0/text_summary" in texts


def test_it_needs_the_package():
    assert any("pip install 'newt-tune[tensorboard]'" in t for t in complaints(Facts(known=True), use_tensorboard=True))
