"""Tells a tracker what happens."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from newt.config.section import Config
from newt.support.log import warn
from newt.training import checkpoints
from newt.training.callbacks.base import RunCallback
from newt.training.trackers import (
    UPLOAD_SECONDS,
    Desk,
    TrackedRun,
    Tracker,
    Uploads,
    linked_copy,
    numbers,
    store_run,
    stored_run,
    write_config,
)

BINS = 64


class Tracking(RunCallback):
    """Hands log events, tables and folders to a tracker, which works in a thread of its own."""

    def __init__(
        self, tracker: Tracker, run: TrackedRun, cfg: Config, uploads: Uploads = None, watched: tuple[str, ...] = ()
    ) -> None:
        """Keep what it needs.

        Args:
            tracker: where things go.
            run: what it is told.
            cfg: the config.
            uploads: which folders it gets.
            watched: ``gradients`` and ``parameters`` of which it gets histograms.
        """
        self.tracker, self.run, self.cfg, self.uploads, self.watched = tracker, run, cfg, uploads, watched
        self.desk: Desk | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the tracker; a run that goes on keeps its id."""
        if not state.is_world_process_zero:
            return
        write_config(self.cfg, self.run.output_dir)
        known = stored_run(self.run.output_dir, self.tracker.key) if state.global_step else None
        run = dataclasses.replace(self.run, from_step=state.global_step, run_id=known)
        self.desk = Desk(self.tracker.name)
        self.desk.send(lambda: store_run(run.output_dir, self.tracker.key, self.tracker.start(run)))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Send the numbers."""
        values = numbers(logs or {})
        if values:
            self._send(partial(self.tracker.log, values, state.global_step))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Send histograms for the steps that are logged."""
        step = state.global_step + 1
        if not self.watched or self.desk is None or self.desk.dropped or step % max(1, state.logging_steps):
            return
        found = {}
        for kind in self.watched:
            for name, parameter in model.named_parameters():
                values = parameter.grad if kind == "gradients" else parameter
                if parameter.requires_grad and values is not None:
                    found[f"{kind}/{name}"] = histogram(values.detach())
        self._send(partial(self.tracker.histograms, found, step))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Send the checkpoint, if wanted."""
        name = checkpoints.name_of(state.global_step)
        if self.uploads == "checkpoint":
            self._upload(Path(args.output_dir) / name, name)

    def on_run_end(self, folder: Path | None) -> None:
        """Send the trained model, if wanted, and wait for the tracker."""
        if self.desk is None:
            return
        if folder is not None and self.uploads is not None:
            self._upload(folder, "model")
        self._send(lambda: self.tracker.finish(folder is not None))
        self.desk.close()
        self.desk = None
        for copy in self.run.output_dir.glob(f".{self.tracker.key}-*"):  # of uploads that were not made any more
            shutil.rmtree(copy, ignore_errors=True)

    def table(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        """Send a table: rows with the same columns."""
        self._send(partial(self.tracker.table, name, rows, step))

    def _send(self, call: Callable[[], None]) -> None:
        if self.desk is not None:
            self.desk.send(call)

    def _upload(self, folder: Path, name: str) -> None:
        if self.desk is None or self.desk.dropped or not folder.is_dir():
            return
        try:
            copy = linked_copy(folder, self.run.output_dir / f".{self.tracker.key}-{name}", model_only=name == "model")
        except OSError as error:
            warn(f"{folder} was not given to {self.tracker.name}: {error}")
            return

        def upload() -> None:
            try:
                self.tracker.upload(copy, name)
            finally:
                shutil.rmtree(copy, ignore_errors=True)

        self.desk.send(upload, UPLOAD_SECONDS)


def tracking(tracker: Tracker, *args: Any) -> Tracking:
    """The callback of a tracker, of a class of its own: the trainer warns of two callbacks of one class."""
    kind: type[Tracking] = type(f"Tracking_{tracker.key}", (Tracking,), {})
    return kind(tracker, *args)


def histogram(values: torch.Tensor) -> tuple[list[float], list[float]]:
    """Counts (64,) and edges (65,) of the finite values of a tensor."""
    flat = values.float().flatten()
    flat = flat[flat.isfinite()]
    low, high = (float(flat.min()), float(flat.max())) if flat.numel() else (0.0, 0.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(flat, BINS, low, high)
    return counts.tolist(), torch.linspace(low, high, BINS + 1).tolist()


def show_table(trainer: Any, name: str, rows: list[dict[str, Any]]) -> None:
    """Hand a table to every tracker of a run."""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, Tracking):
            callback.table(name, rows, trainer.state.global_step)
