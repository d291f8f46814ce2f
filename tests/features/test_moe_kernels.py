"""Kernels for experts."""

import pytest
from tests.helpers import complaints, unsupported

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"use_scattermoe": True}, "needs KernelsPlugin"),
        (
            {"plugins": ["KernelsPlugin"], "use_scattermoe": True, "use_sonicmoe": True},
            "use_sonicmoe: cannot be used with use_scattermoe.",
        ),
        (
            {"plugins": ["KernelsPlugin"], "use_scattermoe": True, "experts_implementation": "sonicmoe"},
            "sonicmoe cannot be used with use_scattermoe. Write scattermoe",
        ),
        (
            {
                "plugins": ["KernelsPlugin"],
                "use_scattermoe": True,
                "lora_mlp_kernel": True,
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "lora_mlp_kernel: cannot be used with use_scattermoe",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    ("facts", "keys", "text"),
    [
        (
            Facts(known=True, gpus=1, capability=(8, 0)),
            {"plugins": ["KernelsPlugin"], "use_sonicmoe": True},
            "use_sonicmoe: needs compute capability 9.0",
        ),
    ],
)
def test_complaints_about_the_machine(facts, keys, text):
    assert any(text in message for message in complaints(facts, **keys)), complaints(facts, **keys)


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (Facts(known=True, gpus=1, capability=(9, 0)), {"plugins": ["KernelsPlugin"], "use_sonicmoe": True}),
    ],
)
def test_a_machine_that_has_what_it_needs(facts, keys):
    assert complaints(facts, **keys) == []


@pytest.mark.parametrize(
    "keys",
    [
        {
            "plugins": ["KernelsPlugin"],
            "use_scattermoe": True,
            "experts_implementation": "scattermoe",
            "lora_mlp_kernel": False,
            "adapter": "lora",
            "lora_r": 8,
            "lora_alpha": 16,
            "lora_target_linear": True,
        },
        {"use_sonicmoe": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["KernelsPlugin"], "use_sonicmoe": True}, {"plugins", "use_sonicmoe"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
