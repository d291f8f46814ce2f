"""Checkpoint folders on disk: which are there, which are whole, which may go. Torch-free."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from newt.support.files import MANIFEST, verify_manifest

STATE = "trainer_state.json"
TOKENS = "tokens_state.json"
FINGERPRINT = "fingerprint.json"
STREAM = "stream_state.json"

NEEDED: dict[str, tuple[str, ...]] = {
    "weights": ("*.safetensors", "pytorch_model_fsdp*", "global_step*/*", "*/*.safetensors"),
    "optimizer state": ("optimizer.pt", "optimizer.bin", "optimizer_*/*", "global_step*/*"),
    "scheduler state": ("scheduler.pt", "global_step*/*"),
    "random number state": ("rng_state*.pth",),
    "trainer state": (STATE,),
    "token counts": (TOKENS,),
    "fingerprint of the run": (FINGERPRINT,),
}
"""What a run needs to go on, and the files that may hold it (the later names belong to FSDP and DeepSpeed)."""

STATES = ("optimizer state", "scheduler state", "random number state")
"""What a checkpoint of ``save_only_model`` lacks."""

_NAME = re.compile(r"checkpoint-(\d+)")


def name_of(step: int) -> str:
    """Folder name of the checkpoint after an optimizer step."""
    return f"checkpoint-{step}"


def step_of(folder: Path) -> int:
    """The optimizer step in a checkpoint's folder name, -1 for another folder."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1


def all_checkpoints(output_dir: Path) -> list[Path]:
    """Checkpoint folders, oldest step first."""
    if not output_dir.is_dir():
        return []
    found = [path for path in output_dir.iterdir() if step_of(path) >= 0 and path.is_dir()]
    return sorted(found, key=step_of)


WEIGHTS_ALONE = "it holds weights alone (save_only_model)"


def damage(folder: Path, *, weights_alone: bool = False) -> list[str]:
    """What keeps a run from going on from a checkpoint; nothing when it is whole. Reads every file.

    Args:
        folder: the checkpoint.
        weights_alone: one of ``save_only_model`` will do.
    """
    if not folder.is_dir():
        return ["it does not exist"]
    if not (folder / MANIFEST).is_file():
        return [f"{MANIFEST} is missing: it was not finished, or not written by Newt"]
    missing = [f"{what} is missing" for what, names in NEEDED.items() if not _has(folder, names)]
    wrong = verify_manifest(folder)
    if not wrong and missing == [f"{what} is missing" for what in STATES]:
        return [] if weights_alone else [WEIGHTS_ALONE]
    return wrong or missing


def holds_weights_alone(folder: Path) -> bool:
    """Whether a whole checkpoint was saved without the state of its optimizer."""
    return not _has(folder, NEEDED[STATES[0]])


def _has(folder: Path, names: Iterable[str]) -> bool:
    return any(next(folder.glob(name), None) is not None for name in names)


def newest_valid(output_dir: Path, *, weights_alone: bool = False) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint.

    Args:
        output_dir: holds the checkpoints.
        weights_alone: one of ``save_only_model`` will do.

    Returns:
        The folder, or None if there is none; and one line for each newer checkpoint that was skipped, with the reason.
    """
    skipped: list[str] = []
    for folder in reversed(all_checkpoints(output_dir)):
        wrong = damage(folder, weights_alone=weights_alone)
        if not wrong:
            return folder, skipped
        skipped.append(f"{folder}: {'; '.join(wrong)}")
    return None, skipped


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint."""
    content: dict[str, Any] = json.loads((folder / name).read_text())
    return content


def make_room(output_dir: Path, limit: int | None, best: Path | None) -> None:
    """Delete early what :func:`prune` would delete after the next checkpoint, where the disk may not hold both.

    It is taken to be as large as the newest finished one.
    """
    finished = [folder for folder in all_checkpoints(output_dir) if (folder / MANIFEST).is_file()]
    if limit is None or not finished:
        return
    needed = sum(file.stat().st_size for file in finished[-1].rglob("*") if file.is_file())
    if shutil.disk_usage(output_dir).free < needed:
        prune(output_dir, max(limit - 1, 1), best)


def prune(output_dir: Path, limit: int | None, best: Path | None) -> None:
    """Delete the oldest checkpoints until ``limit`` are left; the newest finished one and the best one stay."""
    checkpoints = all_checkpoints(output_dir)
    finished = [folder for folder in checkpoints if (folder / MANIFEST).is_file()]
    kept = {finished[-1].name if finished else "", best.name if best else ""}
    extra = len(checkpoints) - limit if limit else 0
    for folder in [folder for folder in checkpoints if folder.name not in kept][: max(extra, 0)]:
        remove(folder)


def remove(folder: Path) -> None:
    """Delete a checkpoint; its manifest goes first, so that a half-deleted one is never taken for whole."""
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_newer(output_dir: Path, step: int) -> None:
    """Delete the checkpoints after ``step``: a run that goes on from there writes them anew."""
    for folder in all_checkpoints(output_dir):
        if step_of(folder) > step:
            remove(folder)
