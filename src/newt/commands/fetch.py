"""newt fetch: copy what comes with Newt into a folder of yours, without a network."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click

from newt.support.errors import NewtError

WHAT = ("examples", "deepspeed_configs", "docs")
RECORD = ".newt-fetch.json"
"""Beside the copies: the SHA-256 of every file as it was copied, so that a later version can tell your changes."""

PACKAGE = Path(__file__).parents[1]
Answer = Literal["new", "updated", "unchanged", "kept"]
_KEPT = "you changed it; --force overwrites it"


@click.command("fetch")
@click.argument("what", type=click.Choice(WHAT))
@click.option("--dest", type=click.Path(path_type=Path), help="Where to. Default: a folder of that name, here.")
@click.option("--force", is_flag=True, help="Also overwrite files that you changed.")
def command(what: str, dest: Path | None, force: bool) -> None:
    """Copy the examples, the DeepSpeed configs or the docs. A file that you changed is never overwritten."""
    target = dest or Path(what)
    answers: Counter[str] = Counter()
    for name, answer in copy(source_of(what), target, force=force):
        answers[answer] += 1
        if answer != "unchanged":
            click.echo(f"{answer}: {target / name}" + (f" ({_KEPT})" if answer == "kept" else ""))
    order = ("new", "updated", "unchanged", "kept")
    counted = [f"{answers[answer]} {answer}" for answer in order if answers[answer]]
    click.echo(f"{target}: {', '.join(counted)}")


def source_of(what: str) -> Path:
    """The folder in the installed package, or in the checkout that Newt runs from.

    Raises:
        NewtError: this installation lacks it.
    """
    checkout = PACKAGE.parents[1]
    places = [PACKAGE / "resources" / what]
    if (checkout / "pyproject.toml").is_file() and (checkout / "src" / "newt") == PACKAGE:
        places.append(checkout / what)
    for place in places:
        if place.is_dir() and any(_files(place)):
            return place
    raise NewtError(f"this installation has no {what}. Install newt-tune again.")


def copy(source: Path, target: Path, *, force: bool = False) -> Iterator[tuple[str, Answer]]:
    """Copy a tree, file by file.

    Args:
        source: folder to copy.
        target: folder to copy to; made if it is missing.
        force: overwrite files that were changed since they were copied.

    Yields:
        The relative name of each file, and what happened to it.

    Raises:
        NewtError: the target cannot be written.
    """
    from newt.support.files import write_atomically

    record = _read_record(target)
    try:
        for path in _files(source):
            name = path.relative_to(source).as_posix()
            content = path.read_bytes()
            answer = _compare(target / name, content, record.get(name), force)
            if answer in ("new", "updated"):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target / name, content)
                (target / name).chmod(path.stat().st_mode & 0o777 | 0o600)
            if answer != "kept":
                record[name] = _digest(content)
            yield name, answer
        write_atomically(target / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise NewtError(f"{error.filename or target} cannot be written: {str(error.strerror).lower()}") from error


def _compare(path: Path, content: bytes, recorded: str | None, force: bool) -> Answer:
    if not path.exists():
        return "new"
    present = path.read_bytes()
    if present == content:
        return "unchanged"
    return "updated" if force or _digest(present) == recorded else "kept"


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_record(target: Path) -> dict[str, str]:
    try:
        found = json.loads((target / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
