"""Writes a checkpoint when a file asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from newt.support.log import note


class Trigger(TrainerCallback):  # type: ignore[misc]
    """Looks for a file, and deletes it when the checkpoint is written."""

    def __init__(self, paths: Sequence[Path], interval: int) -> None:
        """Keep where and when.

        Args:
            paths: any of these files asks for a checkpoint.
            interval: steps between looks.
        """
        self.paths, self.interval = paths, interval
        self.asked = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look. The first rank does, and tells the others: they write a checkpoint together."""
        if state.global_step % self.interval:
            return
        found = [any(path.exists() for path in self.paths) if state.is_world_process_zero else False]
        if args.world_size > 1:
            torch.distributed.broadcast_object_list(found, src=0)
        if found[0]:
            self.asked = control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """It is written."""
        if not self.asked:
            return
        self.asked = False
        if state.is_world_process_zero:
            for path in self.paths:
                path.unlink(missing_ok=True)
            note(f"Wrote the checkpoint that was asked for, at step {state.global_step}")
