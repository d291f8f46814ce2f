"""What a callback of ours may know beyond the events of the trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


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


def states_of(callbacks: Iterable[Any]) -> dict[str, Any]:
    """What a checkpoint keeps of callbacks: name of the class -> its state, or a list where there are several."""
    stored: dict[str, list[Any]] = {}
    for callback in callbacks:
        if isinstance(callback, ExportableState):
            stored.setdefault(type(callback).__name__, []).append(callback.state())
    return {name: states[0] if len(states) == 1 else states for name, states in stored.items()}


def stored_attributes(state: Any, callback: Any) -> dict[str, Any]:
    """What the checkpoint that a run goes on from keeps of a callback; nothing at step 0 or where there is none."""
    stored = state.stateful_callbacks.get(type(callback).__name__) if state.global_step else None
    return dict(stored.get("attributes", {})) if isinstance(stored, dict) else {}
