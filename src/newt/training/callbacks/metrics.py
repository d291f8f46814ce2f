"""``metrics.jsonl``: one line for each log event, with the trainer's own names."""

from __future__ import annotations

import json
import math
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from newt.support.files import write_atomically

NAME = "metrics.jsonl"


class Metrics(TrainerCallback):  # type: ignore[misc]
    """Writes the file; every line is on its way to the disk before training goes on."""

    def __init__(self, output_dir: Path) -> None:
        """Keep the folder of the run."""
        self.path = output_dir / NAME
        self._file: TextIOWrapper | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the file; lines of steps that will be done again are dropped."""
        if not state.is_world_process_zero:
            return
        kept = _before(self.path, state.global_step) if state.global_step else []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, "".join(kept))
        self._file = self.path.open("a", encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write a line."""
        if self._file is None:
            return
        values = {key: value for key, value in (logs or {}).items() if key != "total_flos"}
        line = {"step": state.global_step, **{key: _plain(value) for key, value in values.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _before(path: Path, step: int) -> list[str]:
    """Whole lines up to a step, without the summary of an earlier end."""
    if not path.is_file():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            values = json.loads(line)
        except ValueError:
            continue  # the last line of a killed run
        if line.endswith("\n") and values.get("step", 0) <= step and "train_runtime" not in values:
            kept.append(line)
    return kept


def _plain(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
