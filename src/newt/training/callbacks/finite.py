"""Stops a run whose loss is no longer a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from newt.support.errors import NewtError
from newt.training.batches import BatchSampler
from newt.training.checkpoints import newest_valid

NAMED = 16
"""Rows that are named, at most."""


class Finite(TrainerCallback):  # type: ignore[misc]
    """Looks at every logged loss.

    Args:
        sampler: gives the batches; None: rows are not named.
        data: the training rows.
        accumulation: micro-batches of an optimizer step.
    """

    def __init__(self, sampler: Any = None, data: Any = None, accumulation: int = 1) -> None:
        self.checked = 0
        self.sampler, self.data, self.accumulation = sampler, data, accumulation

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remember where the run begins."""
        self.checked = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Raise when the loss or the gradient norm is NaN or infinite."""
        for name in ("loss", "grad_norm"):
            value = (logs or {}).get(name)
            if value is not None and not math.isfinite(value):
                first, last = self.checked + 1, state.global_step
                rows = self.rows(first, last)
                raise not_finite(name, value, first, last, Path(args.output_dir), rows)
        if "loss" in (logs or {}):
            self.checked = state.global_step

    def rows(self, first: int, last: int) -> list[str]:
        """Names of the training rows of the steps from ``first`` to ``last`` that are in the sampler's epoch."""
        if not isinstance(self.sampler, BatchSampler):
            return []
        per_epoch = -(-len(self.sampler) // self.accumulation)
        begin = max(first - 1 - self.sampler.epoch * per_epoch, 0) * self.accumulation
        end = min((last - self.sampler.epoch * per_epoch) * self.accumulation, len(self.sampler))
        picks = (pick for number in range(begin, end) for pick in self.sampler[number] if not pick.filler)
        return [self._name(row) for pick in picks for row in pick.rows]

    def _name(self, row: int) -> str:
        if not hasattr(self.data, "provenance"):
            return str(row)
        dataset, number = self.data.provenance(row)
        return f"{number} of datasets.{dataset}" if dataset else str(number)


def not_finite(name: str, value: float, first: int, last: int, output_dir: Path, rows: Sequence[str] = ()) -> NewtError:
    """The error of a run that diverged between two steps, with the rows that were trained in them."""
    where = f"at step {last}" if first >= last else f"between steps {first} and {last}"
    newest, _ = newest_valid(output_dir, weights_alone=True)
    go_on = f"The last good checkpoint is {newest}." if newest else "There is no checkpoint yet."
    more = ", ..." if len(rows) > NAMED else ""
    seen = f" Rows trained there, counted from 0: {', '.join(rows[:NAMED])}{more}." if rows else ""
    return NewtError(f"{name} became {value} {where}.{seen} {go_on} Try a lower learning_rate, or look at these rows.")
