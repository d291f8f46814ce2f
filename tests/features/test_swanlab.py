"""SwanLab."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"use_swanlab": True, "swanlab_project": "p"}, "use_swanlab: needs SwanLabPlugin"),
        ({"plugins": ["SwanLabPlugin"], "use_swanlab": True}, "needs swanlab_project"),
        ({"plugins": ["SwanLabPlugin"], "swanlab_project": "p"}, "has no effect: use_swanlab is not on"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"use_swanlab": False},
        {"plugins": ["SwanLabPlugin"], "use_swanlab": True, "swanlab_project": "p"},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"plugins": ["SwanLabPlugin"], "use_swanlab": True, "swanlab_project": "p"},
            {"plugins", "use_swanlab", "swanlab_project"},
        ),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
