"""Files are whole or absent, also after a kill; damage is named."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from newt.support.files import atomic_dir, nearest_name, sha256_file, verify_manifest, write_atomically, write_manifest


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "final"
    for content in ("old", "new"):
        with atomic_dir(final) as folder:
            (folder / "inner").mkdir()
            (folder / "inner" / "a").write_text(content)
            assert folder.parent == final.parent
            assert not final.exists() or (final / "inner" / "a").read_text() == "old"
    assert (final / "inner" / "a").read_text() == "new"
    assert list(final.parent.iterdir()) == [final]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "final"
    with atomic_dir(final) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(KeyError), atomic_dir(final) as folder:
        (folder / "a").write_text("half")
        raise KeyError
    assert (final / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


KILLED = """
import os, signal, sys
from pathlib import Path
from newt.support.files import atomic_dir
with atomic_dir(Path(sys.argv[1])) as folder:
    (folder / "a").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_leaves_no_half_folder_and_the_next_writer_clears_up(tmp_path: Path) -> None:
    final = tmp_path / "final"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(final)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not final.exists()
    assert len(list(tmp_path.glob(".final.*.partial"))) == 1
    with atomic_dir(tmp_path / "next"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "next"]


KILLED_FILE = """
import os, signal, sys
from pathlib import Path
from newt.support import files
files._sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomically(Path(sys.argv[1]), "half")
"""


@pytest.mark.parametrize("next_one", ["file", "folder"])
def test_a_kill_leaves_no_half_file_and_the_next_writer_clears_up(tmp_path: Path, next_one: str) -> None:
    path = tmp_path / "run[1].json"
    path.write_text("old")
    subprocess.run([sys.executable, "-c", KILLED_FILE, str(path)], check=False)
    assert path.read_text() == "old"
    assert len(list(tmp_path.glob(".run*.partial"))) == 1
    if next_one == "file":
        write_atomically(path, "new")
    else:
        with atomic_dir(tmp_path / "next"):
            pass
    assert not list(tmp_path.glob(".*"))


def test_the_folder_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    final = tmp_path / "final"
    with atomic_dir(final) as mine:
        other = mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{os.getppid()}."))
        other.mkdir()
    with atomic_dir(final):
        pass
    assert other.is_dir()


def test_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 1000)
    assert sha256_file(path) == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_a_manifest_finds_what_is_missing_truncated_or_changed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("whole", "missing", "cut", "sub/changed"):
        (tmp_path / name).write_text(f"content of {name}")
    write_manifest(tmp_path)
    assert verify_manifest(tmp_path) == []
    (tmp_path / "missing").unlink()
    (tmp_path / "cut").write_text("content")
    (tmp_path / "sub" / "changed").write_text("CONTENT of sub/changed")
    (tmp_path / "new").write_text("does not matter")
    assert verify_manifest(tmp_path) == [
        "cut has 7 bytes, not 14",
        "missing is missing",
        "sub/changed has changed",
    ]
    (tmp_path / "manifest.json").write_text('{"files": [')
    assert verify_manifest(tmp_path) == ["manifest.json is damaged"]
    (tmp_path / "manifest.json").unlink()
    assert verify_manifest(tmp_path) == ["manifest.json is missing"]


def test_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").touch()
    assert nearest_name(tmp_path / "data" / "trian.jsonl") == str(tmp_path / "data" / "train.jsonl")
    assert nearest_name(tmp_path / "dta" / "train.jsonl") == str(tmp_path / "data")
    assert nearest_name(tmp_path / "data" / "something.else") is None
