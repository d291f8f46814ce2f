"""Checks of ``output_dir`` before anything is loaded. Torch-free."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from newt.config.core import Cadence, Model, RunControl
from newt.config.section import Config, Problem
from newt.support.errors import NewtError
from newt.support.files import MANIFEST, nearest_name
from newt.training import checkpoints

FULL_STATE = 3
"""Size of a full checkpoint over that of the weights: the weights and two moments of Adam."""

FULL = (errno.ENOSPC, errno.EDQUOT)

FULL_WORDS = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter failed writing file")
"""What safetensors and torch say."""

LEAST = 100 * 2**20
"""Free bytes without which no run starts."""


def problems(cfg: Config) -> list[Problem]:
    """What is wrong with the place that the run writes to, and with the checkpoint that it goes on from."""
    return [*_writable(cfg), *_occupied(cfg), *_checkpoint(cfg), *_space(cfg)]


@contextmanager
def room_needed(output_dir: Path) -> Iterator[None]:
    """Say in one line when the disk is full in this block, and which checkpoint is good.

    Raises:
        NewtError: it is.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if not is_full(error):
            raise
        newest, _ = checkpoints.newest_valid(output_dir, weights_alone=True)
        go_on = f"The last good checkpoint is {newest}." if newest else "There is no checkpoint yet."
        hint = (
            "Make room, lower save_total_limit, or set save_only_model: true; then go on with resume_from_checkpoint."
        )
        raise NewtError(f"output_dir: the disk of {output_dir} is full. {go_on} {hint}") from error


def is_full(error: BaseException) -> bool:
    """Whether a disk or a quota that is full made an error. Libraries that are not Python say it in words only."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(word in str(error) for word in FULL_WORDS)


def _writable(cfg: Config) -> Iterator[Problem]:
    output_dir = Path(cfg[RunControl].output_dir).expanduser()
    parent = _existing(output_dir)
    if not parent.is_dir():
        yield cfg.problem("output_dir", f"{parent} is a file.", "Choose a folder.")
    elif not os.access(parent, os.W_OK | os.X_OK) or not shutil.disk_usage(parent).total:
        yield cfg.problem("output_dir", f"{parent} cannot be written to.", "Choose another folder.")


def _occupied(cfg: Config) -> Iterator[Problem]:
    run = cfg[RunControl]
    if run.resume_from_checkpoint or run.auto_resume_from_checkpoints or run.overwrite_output_dir:
        return
    output_dir = Path(run.output_dir).expanduser()
    found = checkpoints.all_checkpoints(output_dir)
    models = [name for name in ("model.safetensors", "adapter_model.safetensors") if (output_dir / name).is_file()]
    if found:
        yield cfg.problem(
            "output_dir",
            f"{output_dir} holds another run ({found[-1].name}).",
            "Go on with resume_from_checkpoint: true, start anew with overwrite_output_dir: true, "
            "or choose another folder.",
        )
    elif models:
        yield cfg.problem(
            "output_dir",
            f"{output_dir} holds a finished model ({models[0]}).",
            "Choose another folder, or set overwrite_output_dir: true.",
        )


def _checkpoint(cfg: Config) -> Iterator[Problem]:
    run = cfg[RunControl]
    key = "resume_from_checkpoint"
    if run.resume_from_checkpoint is True and not checkpoints.all_checkpoints(Path(run.output_dir).expanduser()):
        yield cfg.problem(key, f"there is no checkpoint in {run.output_dir}.", "Remove it to start.")
    if isinstance(run.resume_from_checkpoint, str):
        folder = Path(run.resume_from_checkpoint).expanduser()
        near = nearest_name(folder)
        if not folder.is_dir():
            yield cfg.problem(key, f"{folder} does not exist.", f"Did you mean {near}?" if near else "")
        elif not (folder / MANIFEST).is_file():
            yield cfg.problem(key, f"{folder} is not a finished checkpoint of Newt: {MANIFEST} is missing.")


def _space(cfg: Config) -> Iterator[Problem]:
    place = _existing(Path(cfg[RunControl].output_dir).expanduser())
    if not place.is_dir() or not shutil.disk_usage(place).total:
        return
    free = shutil.disk_usage(place).free
    base = Path(cfg[Model].base_model).expanduser()
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors")) if base.is_dir() else 0
    # An adapter's checkpoints are small, whatever the model.
    one = 0 if cfg.value("adapter") else weights * FULL_STATE
    kept = (cfg[Cadence].save_total_limit or 1) + 1
    if free < max(LEAST, one):
        need = max(LEAST, one)
        yield cfg.problem(
            "output_dir", f"{_gib(free)} are free, one checkpoint needs about {_gib(need)}.", "Make room."
        )
    elif free < one * kept:
        yield cfg.problem(
            "output_dir",
            f"{_gib(free)} are free, {kept} checkpoints need about {_gib(one * kept)}.",
            "Make room, or lower save_total_limit.",
            kind="warning",
        )


def _existing(path: Path) -> Path:
    while not path.exists() and path.parent != path:
        path = path.parent
    return path


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"
