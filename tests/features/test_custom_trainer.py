"""A trainer class of the user's own."""

from tests.helpers import messages


def test_it_must_be_a_dotted_name():
    assert "'my trainer' is not a dotted name" in messages(trainer_cls="my trainer")[1]
    assert messages(trainer_cls="my_package.Trainer") == ["trainer_cls: is known, but Newt does not support it yet."]
