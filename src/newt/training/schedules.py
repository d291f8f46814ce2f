"""Curves of the learning rate: the factor of the peak at each optimizer step, from the step alone. Torch-free.

A factor depends on nothing but the step, so a run that goes on from a checkpoint follows the same curve, and groups
with their own peak follow it in proportion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from newt.support.errors import NewtError

Curve = Callable[[int], float]

ARGUMENTS: Mapping[str, Mapping[str, type]] = {
    "cosine": {"num_cycles": float},
    "linear": {},
    "constant": {},
    "constant_with_warmup": {},
    "polynomial": {"lr_end": float, "power": float},
    "inverse_sqrt": {"timescale": int},
    "cosine_with_restarts": {"num_cycles": int},
    "cosine_with_min_lr": {"num_cycles": float, "min_lr": float, "min_lr_rate": float},
    "cosine_warmup_with_min_lr": {
        "num_cycles": float, "min_lr": float, "min_lr_rate": float, "warmup_lr_rate": float,
    },
    "warmup_stable_decay": {
        "num_decay_steps": int, "num_stable_steps": int, "warmup_type": str, "decay_type": str, "min_lr_ratio": float,
        "num_cycles": float,
    },
    "rex": {},
    "one_cycle": {"div_factor": float, "final_div_factor": float, "anneal_strategy": str, "three_phase": bool},
    "reduce_lr_on_plateau": {
        "mode": str, "factor": float, "patience": int, "threshold": float, "threshold_mode": str, "cooldown": int,
        "min_lr": float, "eps": float,
    },
    "greedy": {
        "mode": str, "factor": float, "patience": int, "threshold": float, "threshold_mode": str, "cooldown": int,
        "warmup": int, "min_lr": float, "max_lr": float, "eps": float, "smooth": bool, "window_size": int,
        "reset_start": int,
    },
}  # fmt: skip
"""Name -> the arguments that ``lr_scheduler_kwargs`` may hold, with their types."""

NEEDS: Mapping[str, tuple[str, ...]] = {
    "cosine_with_min_lr": ("min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("min_lr", "min_lr_rate"),
    "warmup_stable_decay": ("num_decay_steps",),
}
"""Name -> arguments of which it needs one."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "anneal_strategy": ("cos", "linear"),
    "warmup_type": ("linear", "cosine", "1-sqrt"),
    "decay_type": ("linear", "cosine", "1-sqrt"),
    "mode": ("min", "max"),
    "threshold_mode": ("rel", "abs"),
}
"""Argument -> its values, where it is a name."""

MEASURED = ("reduce_lr_on_plateau", "greedy")
"""Those that follow the evaluations, not the step."""


def min_lr_cosine(steps: int, warmup: int, minimum: float, constant: float = 1.0) -> Curve:
    """Linear warm-up, then ``m + (1 - m)(1 + cos(pi p)) / 2``.

    Args:
        steps: all steps.
        warmup: steps of the warm-up.
        minimum: m, the factor at the end of the cosine.
        constant: share of ``steps`` at which the cosine ends; the factor stays at m from there.
    """
    end = max(warmup + 1, int(steps * constant))

    def factor(step: int) -> float:
        if step < warmup:
            return step / max(1, warmup)
        progress = min(1.0, (step - warmup) / (end - warmup))
        return minimum + (1 - minimum) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


def quadratic_warmup(steps: int, warmup: int) -> Curve:
    """Warm-up ``(s / w)^2``, then a cosine to 0."""
    after = min_lr_cosine(steps, warmup, 0.0)

    def factor(step: int) -> float:
        return (step / warmup) ** 2 if step < warmup else after(step)

    return factor


def rex(steps: int, warmup: int, minimum: float = 0.0) -> Curve:
    """Linear warm-up, then ``m + (1 - m) z / (0.1 + 0.9 z)`` with ``z`` falling from 1 to 0; m after the last step.

    https://arxiv.org/abs/2107.04197

    Args:
        steps: all steps.
        warmup: steps of the warm-up.
        minimum: m, the factor at the end.
    """
    rest = steps - warmup

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        left = max(0.0, (rest - (step - warmup)) / rest) if rest else 0.0
        return minimum + (1 - minimum) * left / (0.1 + 0.9 * left)

    return factor


def one_cycle(
    steps: int,
    warmup: int,
    *,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    anneal_strategy: str = "cos",
    three_phase: bool = False,
) -> Curve:
    """One rise to the peak and one fall, as ``OneCycleLR`` of torch with ``pct_start = warmup / steps``.

    Args:
        steps: all steps.
        warmup: steps of the rise.
        div_factor: the first rate is the peak divided by this.
        final_div_factor: the last rate is the first divided by this.
        anneal_strategy: ``cos`` or ``linear``.
        three_phase: fall to the first rate as long as the rise took, then to the last.

    Raises:
        NewtError: ``anneal_strategy`` is another.
    """
    if anneal_strategy not in ("cos", "linear"):
        raise NewtError(f"lr_scheduler_kwargs: anneal_strategy must be cos or linear, not {anneal_strategy!r}.")
    first, last = 1 / div_factor, 1 / div_factor / final_div_factor
    phases = [(0.0, warmup - 1.0, first, 1.0)]
    if three_phase:
        phases += [(warmup - 1.0, 2.0 * warmup - 2, 1.0, first), (2.0 * warmup - 2, steps - 1.0, first, last)]
    else:
        phases += [(warmup - 1.0, steps - 1.0, 1.0, last)]

    def factor(step: int) -> float:
        for begin, end, low, high in phases:
            if step <= end and end > begin:
                part = (step - begin) / (end - begin)
                part = 0.5 * (1 - math.cos(math.pi * part)) if anneal_strategy == "cos" else part
                return low + (high - low) * part
        return 1.0 if step < warmup else last

    return factor


def own_curve(name: str, steps: int, warmup: int, minimum: float, arguments: Mapping[str, Any]) -> Curve | None:
    """The curve of a name that transformers does not have; None: it has it.

    Args:
        name: ``lr_scheduler``.
        steps: all steps.
        warmup: steps of the warm-up.
        minimum: the factor at the end, where the curve has one.
        arguments: of the schedule.

    Raises:
        NewtError: the warm-up is longer than the run.
    """
    if name not in ("rex", "one_cycle"):
        return None
    if warmup > steps:
        raise NewtError(f"warmup_steps: {warmup} is more than the {steps} steps of the run, and {name} needs the rest.")
    return rex(steps, warmup, minimum) if name == "rex" else one_cycle(steps, warmup, **arguments)
