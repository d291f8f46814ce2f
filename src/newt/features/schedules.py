"""How the learning rate moves during the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

if TYPE_CHECKING:
    from torch.optim import Optimizer

SUPPORTED = (
    "cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt", "cosine_with_restarts",
    "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay",
)  # fmt: skip
KNOWN = ("one_cycle", "rex", "reduce_lr_on_plateau", "greedy")


class ScheduleSettings(Section):
    """Keys of the learning rate schedule."""

    coming: ClassVar[frozenset[str]] = frozenset({"lr_quadratic_warmup", "lr_div_factor"})

    lr_scheduler: str = "cosine"
    """Shape of the schedule after the warm-up."""
    lr_scheduler_kwargs: dict[str, Any] | None = None
    """Arguments of the schedule, such as ``num_cycles`` or ``min_lr_rate``."""
    warmup_steps: float | None = Field(default=None, ge=0)
    """Steps in which the learning rate rises from 0. Default: 3 % of the steps, at most 100.
    Below 1: a share of all steps."""
    warmup_ratio: float | None = Field(default=None, ge=0, le=1)
    """The same as a share of all steps. Not together with ``warmup_steps``."""
    cosine_min_lr_ratio: float | None = Field(default=None, ge=0, le=1)
    """The cosine ends at this share of the peak."""
    cosine_constant_lr_ratio: float | None = Field(default=None, ge=0, le=1)
    """With ``cosine_min_lr_ratio``: the cosine ends at this share of all steps, then the rate stays."""
    lr_quadratic_warmup: bool | None = None
    """The rate rises with the square of the step, then falls along a cosine to 0."""
    lr_div_factor: float | None = Field(default=None, gt=0)
    """one_cycle: the rate begins at the peak divided by this."""


class Schedules(Feature):
    """Makes the scheduler."""

    name = "schedule"
    Settings = (ScheduleSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always."""
        return True

    def check(self) -> Iterable[Problem]:
        """The name, and numbers that it reads."""
        settings = self.cfg[ScheduleSettings]
        name = settings.lr_scheduler
        if name in KNOWN:
            yield self.not_yet("lr_scheduler", name)
        elif name not in SUPPORTED:
            near = get_close_matches(name, SUPPORTED + KNOWN, 1)
            hint = (f"Did you mean {near[0]}? " if near else "") + f"Valid: {', '.join(SUPPORTED)}."
            yield self.problem("lr_scheduler", f"unknown schedule {name!r}.", hint)
        if settings.warmup_steps and settings.warmup_steps > 1 and settings.warmup_steps != int(settings.warmup_steps):
            yield self.problem("warmup_steps", f"{settings.warmup_steps} is not a whole number of steps.")
        if settings.warmup_steps is not None and settings.warmup_ratio is not None:
            yield self.problem(("warmup_ratio", "warmup_steps"), "cannot be used with warmup_steps.", "Remove one.")
        yield from self._check_cosine(settings)
        if settings.warmup_ratio is not None and self.cfg.value("rl") == "simpo":
            yield self.problem(("warmup_ratio", "rl"), "cannot be used with rl: simpo.", "Set warmup_steps.")

    def _check_cosine(self, settings: ScheduleSettings) -> Iterable[Problem]:
        """Keys of one shape; restarts and rex also end at the smallest rate."""
        name = settings.lr_scheduler
        reads = {
            "cosine_min_lr_ratio": name in ("cosine", "rex") or self.cfg.value("jagged_restart_steps") is not None,
            "cosine_constant_lr_ratio": name == "cosine",
            "lr_quadratic_warmup": name == "cosine" or not settings.lr_quadratic_warmup,
            "lr_div_factor": name == "one_cycle",
        }
        for key, read in reads.items():
            if key in self.cfg.given and not read:
                yield self.problem(key, f"has no effect: lr_scheduler is {name}.", "Remove it.")
        if settings.cosine_constant_lr_ratio is not None and settings.cosine_min_lr_ratio is None:
            yield self.problem("cosine_constant_lr_ratio", "has no effect: cosine_min_lr_ratio is not set.")
        if settings.lr_quadratic_warmup and settings.cosine_min_lr_ratio is not None:
            message = "has no effect: lr_quadratic_warmup ends at 0."
            yield self.problem("cosine_min_lr_ratio", message, "Remove one.", kind="warning")

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the schedule slot."""
        plan.schedule.fill(self._make, by=self.name)

    def _make(self, optimizer: Optimizer, steps: int) -> Any:
        from torch.optim.lr_scheduler import LambdaLR
        from transformers import get_scheduler

        settings = self.cfg[ScheduleSettings]
        warmup = self.warmup(steps)
        if settings.cosine_min_lr_ratio is not None:
            curve = min_lr_cosine(steps, warmup, settings.cosine_min_lr_ratio, settings.cosine_constant_lr_ratio or 1.0)
            return LambdaLR(optimizer, curve)
        return get_scheduler(
            settings.lr_scheduler,
            optimizer,
            num_warmup_steps=warmup,
            num_training_steps=steps,
            scheduler_specific_kwargs=dict(settings.lr_scheduler_kwargs or {}),
        )

    def warmup(self, steps: int) -> int:
        """Warm-up steps of a run of ``steps`` steps."""
        settings = self.cfg[ScheduleSettings]
        if settings.warmup_steps is not None:
            share = settings.warmup_steps < 1
            return math.ceil(steps * settings.warmup_steps) if share else int(settings.warmup_steps)
        if settings.warmup_ratio is not None:
            return math.ceil(steps * settings.warmup_ratio)
        return min(int(0.03 * steps), 100)


def min_lr_cosine(steps: int, warmup: int, minimum: float, constant: float = 1.0) -> Callable[[int], float]:
    """Factor of the peak at each step: linear warm-up, then ``m + (1 - m)(1 + cos(pi p)) / 2``.

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
