"""``accelerator_config``: what of it has a meaning where every process picks its own batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from newt.config.section import Config, Problem, Section

_NO_EFFECT = {
    "dispatch_batches": (True, "every process reads its own batches from the prepared file"),
    "even_batches": (False, "all processes do the same number of steps, and no row counts twice"),
    "use_seedable_sampler": (False, "the order always depends on the seed alone"),
}
"""Key -> the value that asks for something else, and why nothing changes."""


class Accelerator(Section):
    """``accelerator_config``: how processes share batches."""

    split_batches: bool | None = None
    """Not possible: ``micro_batch_size`` is what each process gets."""
    dispatch_batches: bool | None = None
    """Accepted for compatibility: every process reads its own batches."""
    even_batches: bool = True
    """Accepted for compatibility: all processes do the same number of steps, and no row counts twice."""
    use_seedable_sampler: bool = True
    """Accepted for compatibility: the order of rows depends on the seed alone."""
    non_blocking: bool = False
    """Copy batches to the device while it computes. Needs pinned memory to have an effect."""
    gradient_accumulation_kwargs: dict[str, Any] | None = None
    """``sync_each_batch: true`` adds up gradients over the processes after every micro-batch: less memory, slower."""
    use_configured_state: bool = False
    """Not possible: there is no state of accelerate before the run."""

    def problems(self, cfg: Config) -> Iterable[Problem]:
        """What cannot be, and what has no effect."""
        name = "accelerator_config."
        if self.split_batches:
            hint = "Divide micro_batch_size by the number of processes, and remove it."
            yield cfg.problem(f"{name}split_batches", "cannot be used: micro_batch_size is for each process.", hint)
        if self.use_configured_state:
            message = "cannot be used: there is no state of accelerate before the run."
            yield cfg.problem(f"{name}use_configured_state", message, "Remove it.")
        for key, (asks, reason) in _NO_EFFECT.items():
            if getattr(self, key) is asks:
                yield cfg.problem(f"{name}{key}", f"has no effect: {reason}.", "Remove it.", kind="warning")
        for key in self.gradient_accumulation_kwargs or ():
            if key == "num_steps":
                hint = "Set gradient_accumulation_steps."
                yield cfg.problem(f"{name}gradient_accumulation_kwargs", "num_steps stands elsewhere.", hint)
            elif key != "sync_each_batch":
                message = f"{key} cannot be used."
                yield cfg.problem(f"{name}gradient_accumulation_kwargs", message, "Only sync_each_batch can.")

    def arguments(self) -> dict[str, Any]:
        """What the trainer is told."""
        return {
            "non_blocking": self.non_blocking,
            "gradient_accumulation_kwargs": self.gradient_accumulation_kwargs,
        }
