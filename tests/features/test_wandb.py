"""Weights & Biases."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"wandb_project": "p", "wandb_run_id": "x"}, "also becomes the run's name"),
        ({"wandb_name": "x"}, "has no effect: wandb_project is not set"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (Facts(known=True), {"wandb_project": "p"}, "needs the package wandb"),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, packages={"wandb": "1"}), {"use_wandb": True}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {
            "wandb_project": "p",
            "wandb_run_id": "x",
            "wandb_name": "n",
            "wandb_log_model": "end",
            "wandb_mode": "offline",
        },
        {"use_wandb": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"wandb_project": "p"}, {"wandb_project"}),
        ({"use_wandb": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
