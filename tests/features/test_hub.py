"""Uploads."""

import pytest
from tests.helpers import messages


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"hub_model_id": "me/x", "save_strategy": "no"},
            "hub_model_id: no checkpoint is uploaded: save_strategy is no",
        ),
        ({"hub_strategy": "end"}, "hub_strategy: has no effect: hub_model_id is not set."),
        ({"hub_model_id": "me/x"}, "hub_model_id: is known, but Newt does not support it yet."),
        ({"push_dataset_to_hub": "me/d"}, "push_dataset_to_hub: needs the token of the Hub."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in messages(**keys)), messages(**keys)


def test_sound_configs():
    assert messages(hf_use_auth_token=True) == []
    (message,) = messages(push_dataset_to_hub="me/d", hf_use_auth_token=True)
    assert "does not support it yet" in message
    (message,) = messages(hub_model_id="me/x", save_strategy="epoch")
    assert "does not support it yet" in message
