"""Values that are shown nowhere."""

import pytest

from newt.config.load import load
from newt.config.secrets import HIDDEN, is_secret, redacted
from newt.registry import sections
from newt.run import EntryType


def test_options_of_a_store_are_hidden_as_a_whole() -> None:
    entry = {"path": "s3://b/a", "storage_options": {"key": "x", "client_kwargs": {"secret": "y"}}}
    shown = redacted({"datasets": [entry], "seed": 1})
    hidden = {"key": HIDDEN, "client_kwargs": HIDDEN}
    assert shown == {"datasets": [{"path": "s3://b/a", "storage_options": hidden}], "seed": 1}
    assert redacted({"storage_options": None}) == {"storage_options": None}


def test_secret_keys() -> None:
    assert [key for key in ("wandb_api_key", "hf_token", "eos_token", "storage_options", "seed") if is_secret(key)] == [
        "wandb_api_key",
        "hf_token",
        "storage_options",
    ]


@pytest.mark.parametrize("value", ["the-secret", ["the-secret"], {1: "the-secret"}])
def test_a_wrong_kind_of_options_is_not_repeated(value: object) -> None:
    entry = {"path": "s3://b/a.jsonl", "type": "completion", "storage_options": value}
    loaded = load({"base_model": "m", "datasets": [entry]}, (), sections=sections(), entry_type=EntryType())
    (problem,) = [one for one in loaded.problems if one.keys[0].startswith("datasets.0.storage_options")]
    assert "the-secret" not in str(problem)
