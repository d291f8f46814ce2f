"""Ray."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"ray_num_workers": 4}, "has no effect: use_ray is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (Facts(known=True), {"use_ray": True}, "needs the package ray"),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, packages={"ray": "2"}), {"use_ray": True}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"use_ray": False, "ray_num_workers": 1, "resources_per_worker": {"GPU": 1}},
        {"use_ray": True, "ray_num_workers": 4, "resources_per_worker": {"accelerator_type:L40S": 0.001}},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"use_ray": True, "ray_num_workers": 4, "resources_per_worker": {"GPU": 1}}, {"use_ray", "ray_num_workers"}),
        ({"use_ray": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
