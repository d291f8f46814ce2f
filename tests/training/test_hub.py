"""Uploads of checkpoints and of the model, to a Hub on this machine."""

import types

import pytest
from huggingface_hub import constants
from tests.data.fake_hub import fake_hub

from newt.data import retry
from newt.training.callbacks import hub as uploads
from newt.training.callbacks.hub import HubUploads, Repository


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "WAITS", (0, 0))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    with fake_hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.address)
        template = found.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_x")
        yield found


@pytest.fixture
def said(monkeypatch):
    found = []
    for name in ("note", "warn"):
        monkeypatch.setattr(uploads, name, found.append)
    return found


def run(hub, output_dir, strategy, *, revision=None, ok=True, prune=False):
    """Two checkpoints and a trained model."""
    repository = Repository("me/x", revision, "some/base", adapter=False)
    repository.api.endpoint = hub.address
    callback = HubUploads(repository, strategy, output_dir)
    args = types.SimpleNamespace(output_dir=str(output_dir))
    callback.on_train_begin(args, types.SimpleNamespace(is_world_process_zero=True), None)
    for step in (2, 4):
        folder = output_dir / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        for name in ("model.safetensors", "config.json", "optimizer.pt", "trainer_state.json"):
            (folder / name).write_text(f"{name} {step}")
        callback.on_save(args, types.SimpleNamespace(global_step=step), None)
        if prune:
            for path in folder.iterdir():
                path.unlink()
    (output_dir / "model.safetensors").write_text("final")
    (output_dir / "run.json").write_text("{}")
    callback.on_run_end(output_dir if ok else None)
    return {path: content.decode() for path, content in hub.repos.get("me/x", {}).items()}


MODEL = {"README.md", "model.safetensors"}
WHOLE = {"model.safetensors", "config.json", "optimizer.pt", "trainer_state.json"}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("end", MODEL),
        ("every_save", MODEL | {"config.json"}),
        ("checkpoint", MODEL | {"config.json"} | {f"last-checkpoint/{name}" for name in WHOLE}),
        (
            "all_checkpoints",
            MODEL | {"config.json"} | {f"checkpoint-{step}/{name}" for step in (2, 4) for name in WHOLE},
        ),
    ],
)
def test_what_a_strategy_uploads(hub, said, tmp_path, strategy, expected):
    files = run(hub, tmp_path / "out", strategy)
    assert set(files) == expected
    assert files["model.safetensors"] == "final"
    assert files.get("last-checkpoint/optimizer.pt", "optimizer.pt 4") == "optimizer.pt 4"
    assert "base_model: some/base" in files["README.md"]
    assert hub.private["me/x"] is True
    assert said[-1] == "The model is in me/x on the Hub"
    assert not list((tmp_path / "out").glob(".hub-*"))


def test_a_checkpoint_that_is_deleted_meanwhile_is_uploaded_all_the_same(hub, said, tmp_path):
    files = run(hub, tmp_path / "out", "checkpoint", prune=True)
    assert files["last-checkpoint/optimizer.pt"] == "optimizer.pt 4"


def test_a_branch(hub, said, tmp_path):
    run(hub, tmp_path / "out", "end", revision="tuned")
    assert "tuned" in hub.branches
    assert any("/branch/tuned" in line for line in hub.asked)


def test_a_busy_hub_is_asked_again(hub, said, tmp_path):
    hub.refuse = 2
    assert run(hub, tmp_path / "out", "end")["model.safetensors"] == "final"


def test_a_failure_is_told_at_the_end_and_ends_nothing(hub, said, tmp_path, monkeypatch):
    hub.refuse = 10**6
    run(hub, tmp_path / "out", "every_save")
    lines = [line for line in said if line.startswith("Not uploaded to me/x")]
    assert [line.split(": ")[1] for line in lines] == ["checkpoint-2", "checkpoint-4", "the trained model"]
    assert said[-1].startswith("To upload later: hf upload me/x")


def test_a_run_that_failed_uploads_no_model(hub, said, tmp_path):
    assert run(hub, tmp_path / "out", "end", ok=False) == {}
    assert said == []
