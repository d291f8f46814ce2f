"""The web page."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    "keys",
    [
        {"gradio_title": "x", "gradio_server_port": 8080, "gradio_temperature": 0.5},
        {"gradio_share": False},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"gradio_title": "x"}, {"gradio_title"}),
        ({"gradio_share": False}, set()),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
