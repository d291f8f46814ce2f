"""Images and role boundaries."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    "keys",
    [
        {"image_size": 512, "image_resize_algorithm": "bicubic"},
        {"image_size": [512, 384], "role_boundaries": [{"role": "user", "start": "<u>", "end": "</u>"}]},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"image_size": 512}, {"image_size"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
