"""Masked diffusion."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"diffusion": {"eps": 0.01}}, "diffusion: needs DiffusionPlugin"),
        (
            {"plugins": ["DiffusionPlugin"], "diffusion": {"min_mask_ratio": 0.9, "max_mask_ratio": 0.1}},
            "is above max_mask_ratio (0.1)",
        ),
        (
            {"plugins": ["DiffusionPlugin"], "diffusion": {"mask_token_id": 5, "mask_token_str": "<m>"}},
            "cannot be used with mask_token_id",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"plugins": ["DiffusionPlugin"]},
        {"plugins": ["DiffusionPlugin"], "diffusion": {"noise_schedule": "cosine", "mask_token_id": 5}},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"plugins": ["DiffusionPlugin"]}, {"plugins"}),
        ({"plugins": ["DiffusionPlugin"], "diffusion": {"eps": 0.01}}, {"plugins", "diffusion"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
