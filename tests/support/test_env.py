"""Environment variables are read in one place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from newt.support import env


def test_own_prefix_wins_over_the_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEWT_X", raising=False)
    monkeypatch.delenv("AXOLOTL_X", raising=False)
    assert env.setting("X", "default") == "default"
    monkeypatch.setenv("AXOLOTL_X", "old")
    assert env.setting("X") == "old"
    monkeypatch.setenv("NEWT_X", "new")
    assert env.setting("X") == "new"


@pytest.mark.parametrize(("text", "on"), [("1", True), (" True ", True), ("yes", True), ("0", False), ("", False)])
def test_flags(monkeypatch: pytest.MonkeyPatch, text: str, on: bool) -> None:
    monkeypatch.setenv("NEWT_FLAG", text)
    assert env.flag("NEWT_FLAG") is on


def test_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEWT_DATASET_NUM_PROC", "AXOLOTL_DATASET_NUM_PROC", "AXOLOTL_DATASET_PROCESSES", "RUNPOD_CPU_COUNT"):
        monkeypatch.delenv(name, raising=False)
    assert env.num_proc() >= 1
    monkeypatch.setenv("RUNPOD_CPU_COUNT", "3")
    assert env.num_proc() == 3
    monkeypatch.setenv("AXOLOTL_DATASET_PROCESSES", "4")
    assert env.num_proc() == 4
    monkeypatch.setenv("NEWT_DATASET_NUM_PROC", "5")
    assert env.num_proc() == 5


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NEWT_D=plain", "plain"),
        ("  export NEWT_D = spaced  ", "spaced"),
        ("NEWT_D='a # b' # c", "a # b"),
        ('NEWT_D="a=b"', "a=b"),
        ("NEWT_D=a # comment", "a"),
        ("NEWT_D=a#b", "a#b"),
        ("NEWT_D=", ""),
        ("# NEWT_D=x", None),
        ("NEWT_D", None),
        ("NEWT-D=x", None),
        ("=x", None),
    ],
)
def test_lines_of_a_dotenv_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, value: str | None) -> None:
    monkeypatch.setenv("NEWT_D", "")
    monkeypatch.delenv("NEWT_D")
    (tmp_path / ".env").write_text(line + "\n")
    env.load_file(tmp_path / ".env")
    assert os.environ.get("NEWT_D") == value


def test_a_variable_that_is_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWT_D", "mine")
    (tmp_path / ".env").write_text("NEWT_D=theirs\n")
    env.load_file(tmp_path / ".env")
    env.load_file(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    env.load_file(tmp_path / "binary")
    assert os.environ["NEWT_D"] == "mine"


def test_the_level_of_other_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_VERBOSITY")
    for name in names:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.setenv("LOG_LEVEL", "nonsense")
    env.set_process_defaults()
    assert not [name for name in names if name in os.environ]
    monkeypatch.setenv("LOG_LEVEL", "Debug")
    env.set_process_defaults()
    assert {os.environ[name] for name in names} == {"debug"}


def test_the_page_names_every_variable_that_newt_reads() -> None:
    source = Path(env.__file__)
    page = (source.parents[3] / "docs" / "environment.md").read_text()
    table = source.read_text().split("=====\n")[2]
    names = {word for line in table.splitlines() if line[:1].isupper() for word in line[:30].split()}
    assert len(names) > 12
    assert [name for name in names if f"`{name}`" not in page] == []
