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
        ({"torch_compile": "auto"}, set()),
        ({"torch_compile": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [("max_autotun", "Did you mean max_autotune?"), ("triton.cudagraph", "Did you mean triton.cudagraphs?")],
)
def test_an_option_that_torch_does_not_know(name, hint):
    (text,) = complaints(torch_compile=True, torch_compile_options={name: True})
    assert text == f"torch_compile_options.{name}: is no option of torch.compile. {hint}"


def test_every_known_option_is_one_of_the_installed_torch():
    from torch._inductor import config

    from newt.features.compile import OPTIONS

    assert set(OPTIONS) <= set(config.get_config_copy())
