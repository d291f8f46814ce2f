"""torch.compile."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"torch_compile_options": {"coordinate_descent_tuning": True}}, "has no effect: torch_compile is not on"),
        (
            {"torch_compile": True, "torch_compile_mode": "default", "torch_compile_options": {"max_autotune": True}},
            "torch takes one of them",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"torch_compile": False},
        {"torch_compile": "auto", "torch_compile_options": {"coordinate_descent_tuning": True}},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"torch_compile": "auto"}, {"torch_compile"}),
        ({"torch_compile": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
