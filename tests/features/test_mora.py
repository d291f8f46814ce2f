"""MoRA."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"mora_type": 1}, "needs MoraPlugin"),
        ({"plugins": ["MoraPlugin"], "mora_type": 1}, "has no effect: adapter is not mora"),
        (
            {
                "plugins": ["MoraPlugin"],
                "use_mora": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "use_mora: cannot be used with adapter: lora",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"use_mora": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["MoraPlugin"], "use_mora": True, "mora_type": 6}, {"plugins", "use_mora", "mora_type"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
