"""Records where the time and the memory of some steps go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from newt.support.log import note, warn
from newt.training.callbacks.base import RunCallback

TRACE, SNAPSHOT = "profiler_trace.json", "snapshot.pickle"
MEMORY: Any = torch.cuda.memory  # its recorder has no other interface than names with an underscore


class Profiling(RunCallback):
    """Writes ``profiler_trace.json`` (Chrome's format) and, on a GPU, ``snapshot.pickle`` of the memory."""

    def __init__(self, output_dir: Path, start: int, steps: int) -> None:
        """Keep which steps.

        Args:
            output_dir: where the files go.
            start: number of the first step, from 0.
            steps: how many.
        """
        self.output_dir, self.start, self.end = output_dir, start, start + steps
        self.running: Any = None
        self.failed = False
        if start == 0:  # what is allocated before the first step, such as the weights, has its place in the snapshot
            record_memory(True)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin with the first step's preparations, if it is recorded."""
        if self.start == 0 and state.global_step == 0 and state.is_world_process_zero:
            self._begin()
        else:
            record_memory(False)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin at the first step, or in the middle if a run goes on there."""
        inside = self.start <= state.global_step < self.end
        if inside and self.running is None and not self.failed and state.is_world_process_zero:
            self._begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End after the last step."""
        if state.global_step >= self.end:
            self._finish()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what there is when training ends early."""
        self._finish()

    def on_run_end(self, folder: Path | None) -> None:
        """The same after an error."""
        self._finish()

    def _begin(self) -> None:
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
            record_memory(True)
        running: Any = profile(activities=activities, record_shapes=True, profile_memory=True, with_stack=True)
        try:
            running.__enter__()
        except RuntimeError as error:  # such as another profiler that is at work
            self._give_up(error)
        else:
            self.running = running

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        record_memory(False)
        warn(f"The profile was not written: {error}")

    def _finish(self) -> None:
        if self.running is None:
            return
        recorded, self.running = self.running, None
        try:
            recorded.__exit__(None, None, None)
            self.output_dir.mkdir(parents=True, exist_ok=True)
            if torch.cuda.is_available():
                MEMORY._dump_snapshot(str(self.output_dir / SNAPSHOT))
                record_memory(False)
            recorded.export_chrome_trace(str(self.output_dir / TRACE))
        except (OSError, RuntimeError) as error:
            self._give_up(error)
        else:
            note(f"The profile is in {self.output_dir / TRACE}: open it in Perfetto")


def record_memory(on: bool) -> None:
    """Begin or end to keep the history of a GPU's memory; without one there is none."""
    if torch.cuda.is_available():
        MEMORY._record_memory_history(enabled="all" if on else None)
