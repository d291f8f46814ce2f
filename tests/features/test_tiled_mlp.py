"""Tiled MLPs."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {
                "tiled_mlp": True,
                "tiled_mlp_use_original_mlp": False,
                "plugins": ["LigerPlugin"],
                "liger_glu_activation": True,
            },
            "tiled_mlp: cannot be used with liger_glu_activation",
        ),
        ({"tiled_mlp_num_shards": 4}, "has no effect: tiled_mlp is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"tiled_mlp": True, "plugins": ["LigerPlugin"], "liger_glu_activation": True},
        {"tiled_mlp": False, "tiled_mlp_use_original_mlp": True},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"tiled_mlp": True}, {"tiled_mlp"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
