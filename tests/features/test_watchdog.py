"""The loss watchdog."""

import pytest
from tests.helpers import complaints, make_run


def test_patience_alone_has_no_effect():
    assert any("loss_watchdog_threshold is not set" in text for text in complaints(loss_watchdog_patience=5))
    assert complaints(loss_watchdog_patience=3) == [], "the default says nothing"


@pytest.mark.parametrize(("given", "patience"), [({}, 3), ({"loss_watchdog_patience": 1}, 1)])
def test_the_callback_gets_both_numbers(given, patience):
    (make,) = make_run(loss_watchdog_threshold=5.0, **given).train_plan().callbacks
    watchdog = make()
    assert (watchdog.threshold, watchdog.patience) == (5.0, patience)


def test_no_callback_without_a_threshold():
    assert make_run().train_plan().callbacks == []
