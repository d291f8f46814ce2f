"""Jagged restarts: the learning rate of any schedule falls and rises again every so many steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

if TYPE_CHECKING:
    from torch.optim import Optimizer

WARMUP = 10
ANNEAL = 1
MINIMUM = 0.001


class JaggedSettings(Section):
    """Keys of jagged restarts."""

    jagged_restart_steps: PositiveInt | None = None
    """Steps from one restart of the learning rate to the next."""
    jagged_restart_warmup_steps: NonNegativeInt | None = None
    """Steps in which the learning rate rises again after a restart. Default 10."""
    jagged_restart_anneal_steps: NonNegativeInt | None = None
    """Steps in which it falls before a restart. Default 1."""


class JaggedRestarts(Feature):
    """Wraps the schedule."""

    name = "jagged restarts"
    Settings = (JaggedSettings,)
    off = "jagged_restart_steps is not set"
    switches = ("jagged_restart_steps",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the restarts have a distance."""
        return cfg[JaggedSettings].jagged_restart_steps is not None

    def check(self) -> Iterable[Problem]:
        """Rise and fall must fit between two restarts."""
        warmup, anneal = self.warmup_and_anneal()
        if warmup + anneal > (self.cfg[JaggedSettings].jagged_restart_steps or 0):
            yield self.problem(
                ("jagged_restart_steps", "jagged_restart_warmup_steps", "jagged_restart_anneal_steps"),
                f"is shorter than the warmup ({warmup}) and the annealing ({anneal}) of each restart.",
                "Make it larger, or set jagged_restart_warmup_steps.",
            )
        if self.cfg.value("lr_scheduler") in ("reduce_lr_on_plateau", "greedy"):
            keys = ("jagged_restart_steps", "lr_scheduler")
            yield self.problem(keys, "needs a schedule that depends on the step alone.", "Use lr_scheduler: cosine.")

    def warmup_and_anneal(self) -> tuple[int, int]:
        """Steps of the rise and of the fall of each restart."""
        settings = self.cfg[JaggedSettings]
        warmup, anneal = settings.jagged_restart_warmup_steps, settings.jagged_restart_anneal_steps
        return WARMUP if warmup is None else warmup, ANNEAL if anneal is None else anneal

    def plan_train(self, plan: TrainPlan) -> None:
        """Wrap the schedule, whichever it is."""
        plan.schedule.wrap(self.around, by=self.name)

    def around(self, make: Callable[[Optimizer, int], Any]) -> Callable[[Optimizer, int], Any]:
        """What makes the schedule with restarts, from what makes the schedule."""

        def wrapped(optimizer: Optimizer, steps: int) -> Any:
            from newt.training.restarts import JaggedRestarts

            warmup, anneal = self.warmup_and_anneal()
            return JaggedRestarts(
                make(optimizer, steps),
                period=self.cfg[JaggedSettings].jagged_restart_steps or 1,
                warmup=warmup,
                anneal=anneal,
                minimum=self.cfg.value("cosine_min_lr_ratio") or MINIMUM,
            )

        return wrapped
