from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tests.training.tiny import config

from newt.config.secrets import HIDDEN, redacted
from newt.training.record import Record, data_summary, git_commit


class Summarised:
    fingerprint = "abc"
    summary = SimpleNamespace(to_dict=lambda: {"datasets": [{"path": "x.jsonl", "rows_kept": 3}]})


def read(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())  # type: ignore[no-any-return]


def test_record_at_start_and_end(out: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    model[0].requires_grad_(False)
    record = Record(out, config(out, seed=5), Summarised(), model)
    record.start(0)
    at_start = read(out)
    assert at_start["started"]
    assert at_start["ended"] is None
    assert at_start["config"]["seed"] == 5
    assert at_start["model"] == {"class": "Sequential", "total_parameters": 13, "trainable_parameters": 4}
    assert at_start["data"] == {"datasets": [{"path": "x.jsonl", "rows_kept": 3}], "fingerprint": "abc"}
    assert {"python", "torch", "transformers", "newt-tune"} <= set(at_start["versions"])
    assert at_start["hardware"]["cpus"]
    record.end({"global_step": 4, "loss": float("nan")})
    assert read(out)["result"] == {"global_step": 4, "loss": None}
    assert read(out)["ended"]


def test_secrets_are_hidden() -> None:
    shown = redacted(
        {
            "wandb_api_key": "w",
            "hub_token": "h",
            "empty_token": None,
            "datasets": [{"path": "p", "storage_secret": "s"}],
            "special_tokens": {"pad_token": "<pad>", "eos_token": "</s>"},
            "eot_tokens": ["<|im_end|>"],
        }
    )
    assert shown["wandb_api_key"] == shown["hub_token"] == shown["datasets"][0]["storage_secret"] == HIDDEN
    assert shown["empty_token"] is None
    assert shown["special_tokens"] == {"pad_token": "<pad>", "eos_token": "</s>"}
    assert shown["eot_tokens"] == ["<|im_end|>"]


def test_commit_of_a_repository(tmp_path: Path) -> None:
    assert git_commit(tmp_path / "nowhere") is None
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@x"]
    (tmp_path / "a").write_text("1")
    for command in (["init", "-q"], ["add", "a"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    commit = git_commit(tmp_path)
    assert commit and len(commit) == 40
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == commit + "+"


def test_data_without_a_summary() -> None:
    assert data_summary(None) == {}
