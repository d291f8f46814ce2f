"""Q-GaLore."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"qgalore_rank": 128}, "has no effect: optimizer is not q_galore_adamw8bit"),
        ({"optimizer": "q_galore_adamw8bit", "bf16": False}, "saves little memory in float32"),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"optimizer": "q_galore_adamw8bit", "qgalore_rank": 128},
        {"qgalore_rank": 256},
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"optimizer": "q_galore_adamw8bit", "qgalore_rank": 128}, {"optimizer", "qgalore_rank"}),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
