"""Fetching the base model beside the preparation of the data."""

from __future__ import annotations

import huggingface_hub
import pytest
from tests.helpers import make_config

from newt.commands.download import download_base_model


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The calls of the Hub's library; its answer is a folder without safetensors."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    calls = []

    def snapshot_download(repo, *, revision, allow_patterns):
        calls.append((repo, revision, tuple(allow_patterns)))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_a_model_of_the_hub_is_fetched_and_older_weights_only_when_needed(hub, tmp_path):
    download_base_model(make_config(revision_of_model="abc"))
    assert [(repo, revision) for repo, revision, _ in hub] == [("some/model", "abc")] * 2
    assert "*.safetensors" in hub[0][2]
    assert "pytorch_model*.bin" not in hub[0][2]
    assert hub[1][2] == ("pytorch_model*.bin",)
    (tmp_path / "model.safetensors").touch()
    hub.clear()
    download_base_model(make_config())
    assert len(hub) == 1


def test_nothing_is_asked_where_nothing_is_needed(hub, tmp_path, monkeypatch):
    download_base_model(make_config(base_model=str(tmp_path)))
    download_base_model(make_config(reinit_weights=True))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    download_base_model(make_config())
    assert hub == []


def test_a_failure_is_a_warning(hub, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise OSError("the disk is full\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    download_base_model(make_config())
    expected = "warning: base_model: some/model was not downloaded now: the disk is full Training will try again.\n"
    assert capsys.readouterr().err == expected


def test_preprocess_downloads_unless_told_not_to(newt, write_config, monkeypatch):
    asked = []
    monkeypatch.setattr("newt.commands.download.download_base_model", asked.append)
    assert newt("preprocess", write_config())[0] == 0
    assert len(asked) == 1
    assert newt("preprocess", write_config(), "--no-download")[0] == 0
    assert len(asked) == 1
