"""What is said about output_dir before anything is loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from tests.training.tiny import config

from newt.training.outputs import problems


def texts(found: list) -> list[str]:  # type: ignore[type-arg]
    return [str(problem) for problem in found]


def checkpoint(folder: Path, whole: bool = True) -> Path:
    folder.mkdir(parents=True)
    if whole:
        (folder / "manifest.json").write_text("{}")
    return folder


def test_new_and_empty_folders_are_fine(tmp_path: Path) -> None:
    assert problems(config(tmp_path)) == []
    assert problems(config(tmp_path / "a" / "b")) == []


def test_another_run(tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoint-10")
    checkpoint(tmp_path / "checkpoint-9")
    (found,) = problems(config(tmp_path))
    assert found.keys == ("output_dir",)
    assert "checkpoint-10" in found.message
    for word in ("resume_from_checkpoint: true", "overwrite_output_dir: true"):
        assert word in found.hint
    for key in ("resume_from_checkpoint", "auto_resume_from_checkpoints", "overwrite_output_dir"):
        assert problems(config(tmp_path, **{key: True})) == []


def test_a_finished_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_text("")
    assert "finished model" in texts(problems(config(tmp_path)))[0]


def test_place_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is a file" in texts(problems(config(tmp_path / "file")))[0]
    assert "is a file" in texts(problems(config(tmp_path / "file" / "below")))[0]


def test_place_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert "cannot be written to" in texts(problems(config(tmp_path / "new")))[0]


def test_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no checkpoint" in texts(problems(config(tmp_path, resume_from_checkpoint=True)))[0]
    checkpoint(tmp_path / "checkpoint-12")
    checkpoint(tmp_path / "checkpoint-13", whole=False)
    (found,) = problems(config(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-1")))
    assert "does not exist" in found.message
    assert "Did you mean" in found.hint
    (found,) = problems(config(tmp_path, resume_from_checkpoint=str(tmp_path / "checkpoint-13")))
    assert "manifest.json is missing" in found.message


def test_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    with (tmp_path / "model" / "model.safetensors").open("wb") as file:
        file.truncate(2**30)
    cfg = config(tmp_path / "out", base_model=str(tmp_path / "model"))
    for free, kind in ((2 * 2**30, "invalid"), (10 * 2**30, "warning"), (100 * 2**30, None)):
        usage = types.SimpleNamespace(free=free, total=2**40)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        found = problems(cfg)
        assert [problem.kind for problem in found] == ([kind] if kind else [])
    assert all("GiB" in problem.message for problem in found)


def test_no_torch_is_needed() -> None:
    code = (
        "import sys; import newt.training.outputs, newt.training.resume, newt.training.cadence; "
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_system_that_holds_nothing_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=0, total=0))
    (found,) = problems(config(tmp_path / "out"))
    assert "cannot be written to" in found.message
