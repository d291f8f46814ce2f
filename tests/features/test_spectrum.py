"""Spectrum."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"spectrum_top_fraction": 0.3}, "needs SpectrumPlugin"),
        (
            {
                "plugins": ["SpectrumPlugin"],
                "adapter": "lora",
                "lora_r": 8,
                "lora_alpha": 16,
                "lora_target_linear": True,
            },
            "SpectrumPlugin cannot be used with adapter",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {
            "plugins": ["axolotl.integrations.spectrum.SpectrumPlugin"],
            "spectrum_top_fraction": 0.5,
            "spectrum_model_name": "a/b",
        },
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["SpectrumPlugin"]}, {"plugins"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
