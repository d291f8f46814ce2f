"""Distillation."""

import pytest
from tests.helpers import complaints, unsupported


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"kd_trainer": True}, "kd_trainer: needs KDPlugin"),
        ({"plugins": ["KDPlugin"], "kd_alpha": 0.5}, "has no effect: kd_trainer is not on"),
        (
            {"plugins": ["axolotl.integrations.kd.KDPlugin"], "kd_trainer": True, "kd_alpha": 0},
            "there is nothing to learn",
        ),
        (
            {"plugins": ["axolotl.integrations.kd.KDPlugin"], "kd_trainer": True, "kd_temperature_min": 2.0},
            "is above kd_temperature",
        ),
        (
            {"plugins": ["axolotl.integrations.kd.KDPlugin"], "kd_trainer": True, "kd_online_topk": 8},
            "has no effect: kd_online_server_base_url is not set",
        ),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in complaints(**keys)), complaints(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"kd_trainer": False},
        {
            "plugins": ["axolotl.integrations.kd.KDPlugin"],
            "kd_trainer": True,
            "kd_alpha": 0.9,
            "kd_ce_alpha": 0.1,
            "kd_temperature": 2.0,
            "kd_temperature_min": 1.0,
        },
        {
            "plugins": ["axolotl.integrations.kd.KDPlugin"],
            "kd_trainer": True,
            "kd_online_server": "vllm",
            "kd_online_server_base_url": "http://x",
            "kd_online_topk": 8,
        },
    ],
)
def test_accepted(keys):
    assert complaints(**keys) == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"plugins": ["axolotl.integrations.kd.KDPlugin"], "kd_trainer": True, "kd_alpha": 0.9},
            {"plugins", "kd_trainer", "kd_alpha"},
        ),
    ],
)
def test_what_is_not_built_yet(keys, expected):
    assert unsupported(**keys) == expected
