"""Norms in float32."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"fp32_norms": True}, "fp32_norms: needs FSDP 2"),
        ({"fp32_norms": True, "fsdp_version": 1, "fsdp_config": {"offload_params": False}}, "fp32_norms: needs FSDP 2"),
        ({"fp32_norm_classes": ["RMSNorm"]}, "has no effect: fp32_norms is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {
            "fp32_norms": True,
            "fp32_norm_classes": ["RMSNorm"],
            "fsdp_version": 2,
            "fsdp_config": {"offload_params": False},
        },
        {"fp32_norms": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"fp32_norms": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
