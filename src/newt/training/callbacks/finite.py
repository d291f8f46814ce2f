"""Stops a run whose loss is no longer a number."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from newt.support.errors import NewtError
from newt.training.checkpoints import newest_valid


class Finite(TrainerCallback):  # type: ignore[misc]
    """Looks at every logged loss."""

    def __init__(self) -> None:
        self.checked = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember where the run begins."""
        self.checked = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Raise when the loss or the gradient norm is NaN or infinite."""
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                raise not_finite(name, value, self.checked + 1, state.global_step, Path(args.output_dir))
        if "loss" in (logs or {}):
            self.checked = state.global_step


def not_finite(name: str, value: float, first: int, last: int, output_dir: Path) -> NewtError:
    """The error of a run that diverged between two steps."""
    where = f"at step {last}" if first >= last else f"between steps {first} and {last}"
    newest, _ = newest_valid(output_dir)
    go_on = f"The last good checkpoint is {newest}." if newest else "There is no checkpoint yet."
    return NewtError(f"{name} became {value} {where}. {go_on} Try a lower learning_rate, or look at the data there.")
