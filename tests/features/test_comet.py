"""Comet."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"comet_workspace": "w"}, "has no effect: use_comet is not on"),
        ({"use_comet": True, "comet_mode": "get"}, "get needs comet_experiment_key"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (Facts(known=True), {"use_comet": True}, "needs the package comet-ml"),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, packages={"comet-ml": "3"}), {"use_comet": True}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"use_comet": True, "comet_mode": "get", "comet_experiment_key": "k"},
        {"use_comet": False, "comet_online": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"use_comet": True, "comet_online": False}, {"use_comet", "comet_online"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
