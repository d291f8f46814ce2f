"""Uploads."""

import pytest
from tests.helpers import make_run, messages

from newt.extend import Facts


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (
            {"hub_model_id": "me/x", "save_strategy": "no"},
            "hub_model_id: no checkpoint is uploaded: save_strategy is no",
        ),
        ({"hub_strategy": "end"}, "hub_strategy: has no effect: hub_model_id is not set."),
        ({"hub_model_id": "not a name"}, "hub_model_id: not a name is not a repository."),
        ({"push_dataset_to_hub": "me/d"}, "push_dataset_to_hub: needs the token of the Hub."),
        ({"push_dataset_to_hub": "d", "hf_use_auth_token": True}, "push_dataset_to_hub: d is not a repository."),
    ],
)
def test_complaints(keys, text):
    assert any(text in message for message in messages(**keys)), messages(**keys)


def test_sound_configs():
    assert messages(hf_use_auth_token=True) == []
    assert messages(push_dataset_to_hub="me/d", hf_use_auth_token=True) == []
    assert messages(hub_model_id="me/x", save_strategy="epoch", hub_strategy="end", hub_revision="b") == []


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("push_dataset_to_hub", {"push_dataset_to_hub": "me/d", "hf_use_auth_token": True}),
        ("hub_model_id", {"hub_model_id": "me/x"}),
    ],
)
def test_an_upload_that_cannot_be_is_said_before(monkeypatch, key, keys):
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert any("offline mode is on" in message for message in messages(Facts(known=True), **keys))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    assert not any(key in message for message in messages(Facts(known=True), **keys))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert any("there is no token of the Hub" in message for message in messages(Facts(known=True), **keys))


def test_prepared_data_go_to_the_repository():
    plan = make_run(push_dataset_to_hub="me/d", hf_use_auth_token=True).data_plan()
    assert plan.copies.get()().repo == "me/d"
    assert make_run().data_plan().copies.get() is None


def test_the_callback_uploads_after_every_save_unless_told_otherwise(tmp_path):
    (make,) = make_run(hub_model_id="me/x", hub_revision="b", output_dir=str(tmp_path)).train_plan().callbacks
    callback = make()
    assert (callback.repository.name, callback.repository.revision, callback.strategy) == ("me/x", "b", "every_save")
