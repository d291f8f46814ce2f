"""Files that are whole or absent: atomic writes, manifests with checksums, and the name the user may have meant."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

MANIFEST = "manifest.json"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one, never a part.

    What a killed process left behind of the same file is removed.
    """
    _remove_leftovers(path.parent, path.name)
    partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    _sync(path.parent)


@contextmanager
def atomic_dir(final: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the place of ``final`` when the block ends without an error.

    Everything in it is on the disk before it gets its name. After an error nothing is left of it, and what a killed
    process left behind is removed by the next one that writes a folder at the same place.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final.parent)
    partial = final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        for path in [*partial.rglob("*"), partial]:
            _sync(path)
        _take_place(partial, final)
        _sync(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _take_place(partial: Path, final: Path) -> None:
    if not final.exists():
        partial.rename(final)
        return
    # A folder cannot be renamed over one that is not empty.
    old = partial.with_name(partial.name.removesuffix("partial") + "old.partial")
    final.rename(old)
    partial.rename(final)
    shutil.rmtree(old)


def _remove_leftovers(parent: Path, name: str | None = None) -> None:
    """Remove what dead processes of this machine left of a file or folder, or of all of them."""
    for path in parent.glob(f".{'*' if name is None else escape(name)}.{socket.gethostname()}.*.partial"):
        pid = path.name.removesuffix(".partial").removesuffix(".old").rpartition(".")[2]
        if not pid.isdigit() or _alive(int(pid)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """List every file of a folder with its size and SHA-256 in ``manifest.json``."""
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    write_atomically(folder / MANIFEST, json.dumps({"files": files}, indent=1))


def verify_manifest(folder: Path) -> list[str]:
    """Compare a folder with its manifest.

    Returns:
        What is wrong, one line for each file that is missing, truncated or changed; nothing when all is well.
    """
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return [wrong for name, entry in files.items() if (wrong := _damage(folder, name, entry))]
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except (ValueError, KeyError, TypeError):
        return [f"{MANIFEST} is damaged"]


def _damage(folder: Path, name: str, entry: dict[str, int | str]) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    size = path.stat().st_size
    if size != entry["size"]:
        return f"{name} has {size} bytes, not {entry['size']}"
    if sha256_file(path) != entry["sha256"]:
        return f"{name} has changed"
    return None


def nearest_name(path: str | Path) -> str | None:
    """The existing path whose name is closest to one that does not exist, for "Did you mean ...?".

    The first missing component is the one that is compared: ``dta/train.jsonl`` may suggest ``data``.
    """
    missing = Path(path)
    while missing.parent != missing and not missing.parent.is_dir():
        missing = missing.parent
    try:
        names = [entry.name for entry in missing.parent.iterdir()]
    except OSError:
        return None
    matches = difflib.get_close_matches(missing.name, names, n=1)
    return str(missing.parent / matches[0]) if matches else None
