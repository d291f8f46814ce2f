"""What a callback of ours may know beyond the events of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class RunCallback(TrainerCallback):  # type: ignore[misc]
    """A callback that is also told when everything is over, however it ended."""

    def on_run_end(self, folder: Path | None) -> None:
        """The run is over.

        Args:
            folder: holds the trained model; None when the run was stopped or failed.
        """


@contextmanager
def run_ended(trainer: Any) -> Iterator[Callable[[Path], None]]:
    """Tell the callbacks when the block ends. It calls what it is given with the folder of the trained model."""
    folder: list[Path] = []
    try:
        yield folder.append
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, RunCallback):
                callback.on_run_end(folder[0] if folder else None)
