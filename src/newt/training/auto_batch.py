"""``auto_find_batch_size``: the same optimizer steps in ever smaller micro-batches, until one fits. Torch-free."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from newt.config.core import Batch, RunControl
from newt.config.section import Config
from newt.support.log import note
from newt.training import checkpoints
from newt.training.resume import Start

if TYPE_CHECKING:
    from newt.training.memory import DoesNotFitError


KEYS = ("micro_batch_size", "gradient_accumulation_steps", "batch_size")
"""Keys that say how an optimizer step is split."""


def as_saved(cfg: Config, start: Start) -> Config:
    """The config with the micro-batch that the checkpoint's run had found, so that it goes on bit for bit.

    Args:
        cfg: the config; without ``auto_find_batch_size`` it stays.
        start: where the run begins.
    """
    batch = cfg[Batch]
    if start.checkpoint is None or not batch.auto_find_batch_size:
        return cfg
    stored = checkpoints.read_json(start.checkpoint, checkpoints.FINGERPRINT).get("settings", {})
    found = batch.model_copy(update={key: stored.get(key) for key in KEYS})
    same_step = found.micro * found.accumulation == batch.micro * batch.accumulation
    if found.micro == batch.micro or found.batch_size != batch.batch_size or not same_step:
        return cfg  # where these differ, the checkpoint is of another run
    note(f"As in the checkpoint: {split_of(found)}")
    return _with(cfg, found)


def smaller(cfg: Config, start: Start, error: DoesNotFitError) -> tuple[Config, Start]:
    """What to try next: half the micro-batch, from the newest checkpoint of this run, or from where it began.

    Args:
        cfg: what did not fit.
        start: where that began.
        error: why it ended.

    Raises:
        DoesNotFitError: the error, where no smaller micro-batch is asked for or possible.
    """
    batch = cfg[Batch]
    if not batch.auto_find_batch_size or batch.micro % 2:
        raise error
    output_dir = Path(cfg[RunControl].output_dir).expanduser()
    newest, _ = checkpoints.newest_valid(output_dir)
    again = Start(newest) if newest and checkpoints.step_of(newest) > start.step else start
    if again.checkpoint is not None and error.rows_follow:
        # Its steps had other rows: what it has not seen yet is not what the smaller micro-batches would still see.
        raise error
    if again.checkpoint is None:
        checkpoints.remove_newer(output_dir, -1)  # all of them are of the steps that begin again
    found = batch.split(batch.micro // 2)
    note(f"Out of memory with {split_of(batch)}. Again from step {again.step} with {split_of(found)}")
    return _with(cfg, found), replace(again, split=again.checkpoint is not None, skipped=())


def split_of(batch: Batch) -> str:
    """How an optimizer step is split, with the names of the keys."""
    return f"micro_batch_size: {batch.micro} and gradient_accumulation_steps: {batch.accumulation}"


def _with(cfg: Config, batch: Batch) -> Config:
    return replace(cfg, sections={**cfg.sections, Batch: batch})
