"""How the learning rate moves during the run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import Field

from newt.config.core import Cadence, Data
from newt.config.section import Config, Problem, ProblemKind, Section
from newt.extend import Feature, TrainPlan
from newt.training.schedules import ARGUMENTS, CHOICES, MEASURED, NEEDS, min_lr_cosine, own_curve, quadratic_warmup

if TYPE_CHECKING:
    from torch.optim import Optimizer


class ScheduleSettings(Section):
    """Keys of the learning rate schedule."""

    lr_scheduler: str = "cosine"
    """Shape of the schedule after the warm-up."""
    lr_scheduler_kwargs: dict[str, Any] | None = None
    """Arguments of the schedule, such as ``num_cycles`` or ``min_lr_rate``."""
    warmup_steps: float | None = Field(default=None, ge=0)
    """Steps in which the learning rate rises from 0. Default: 3 % of the steps, at most 100.
    Below 1: a share of all steps. A warm-up of one step would be a step at rate 0 alone, so 1 counts as 2."""
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
        if name not in ARGUMENTS:
            near = get_close_matches(name, ARGUMENTS, 1)
            hint = (f"Did you mean {near[0]}? " if near else "") + f"Valid: {', '.join(ARGUMENTS)}."
            yield self.problem("lr_scheduler", f"unknown schedule {name!r}.", hint)
        else:
            yield from self._check_kwargs(settings)
        if settings.warmup_steps and settings.warmup_steps > 1 and settings.warmup_steps != int(settings.warmup_steps):
            yield self.problem("warmup_steps", f"{settings.warmup_steps} is not a whole number of steps.")
        if settings.warmup_steps is not None and settings.warmup_ratio is not None:
            yield self.problem(("warmup_ratio", "warmup_steps"), "cannot be used with warmup_steps.", "Remove one.")
        yield from self._check_cosine(settings)
        yield from self._check_run(settings)
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

    def _check_kwargs(self, settings: ScheduleSettings) -> Iterable[Problem]:
        """Arguments that the schedule does not have, or lacks."""
        name, given = settings.lr_scheduler, settings.lr_scheduler_kwargs or {}
        known = {} if self._shaped(settings) else ARGUMENTS[name]
        for key, value in given.items():
            if key not in known:
                valid = f"Valid: {', '.join(known)}." if known else "It has none."
                yield self.problem("lr_scheduler_kwargs", f"{name} has no argument {key!r}.", valid)
                continue
            try:
                _coerce(key, value, known[key])
            except ValueError as error:
                yield self.problem("lr_scheduler_kwargs", f"{error}.")
        needs = NEEDS.get(name, ())
        if needs and not any(key in given for key in needs):
            message = f"{name} needs {' or '.join(needs)}."
            yield self.problem(
                ("lr_scheduler_kwargs", "lr_scheduler"), message, f"Set lr_scheduler_kwargs.{needs[-1]}."
            )
        if len([key for key in ("min_lr", "min_lr_rate") if key in given]) == 2:
            yield self.problem("lr_scheduler_kwargs", "min_lr and min_lr_rate say the same.", "Remove one.")
        yield from self._check_bounds(name, given)
        if settings.lr_div_factor is not None and "div_factor" in given:
            yield self.problem("lr_scheduler_kwargs", "sets div_factor, and so does lr_div_factor.", "Remove one.")

    def _check_bounds(self, name: str, given: Mapping[str, Any]) -> Iterable[Problem]:
        """Rates at the end that are above the peak."""
        peak, key = self.cfg.value("learning_rate"), "lr_end" if name == "polynomial" else "min_lr"
        if key not in ARGUMENTS[name] or name in MEASURED:
            return
        try:
            end = _coerce(key, given.get(key, 1e-7 if name == "polynomial" else 0.0), float)
        except ValueError:
            return  # said already
        if peak is not None and end >= peak:
            message = f"{key} must be below learning_rate: {end:g} is not below {peak:g}."
            yield self.problem(("lr_scheduler_kwargs", "learning_rate"), message, f"Lower {key}.")

    def _check_run(self, settings: ScheduleSettings) -> Iterable[Problem]:
        """The length of the run, and evaluations that the schedule follows."""
        steps, name = self.cfg.value("max_steps"), settings.lr_scheduler
        warmup = self.warmup(steps) if steps else 0
        if steps and warmup > steps:
            kind: ProblemKind = "invalid" if name in ("rex", "one_cycle") else "warning"
            message = f"{warmup} steps of warm-up are more than the {steps} of the run: it ends below learning_rate."
            yield self.problem(("warmup_steps", "warmup_ratio", "max_steps"), message, kind=kind)
        if name == "constant" and (settings.warmup_steps or settings.warmup_ratio):
            keys = ("warmup_steps" if settings.warmup_steps else "warmup_ratio", "lr_scheduler")
            hint = "Set lr_scheduler: constant_with_warmup."
            yield self.problem(keys, "has no effect: lr_scheduler constant has no warm-up.", hint, kind="warning")
        decay = (settings.lr_scheduler_kwargs or {}).get("num_decay_steps")
        if steps and name == "warmup_stable_decay" and isinstance(decay, int) and warmup + decay > steps:
            message = f"{warmup} steps of warm-up and {decay} of decay are more than the {steps} of the run."
            yield self.problem(("lr_scheduler_kwargs", "max_steps"), message, "Lower num_decay_steps.")
        evaluates = self.cfg[Data].has_eval and self.cfg[Cadence].eval_strategy != "no"
        if name in MEASURED and not evaluates:
            message, hint = f"{name} follows evaluations, and there are none.", "Set val_set_size and eval_steps."
            yield self.problem(("lr_scheduler", "val_set_size"), message, hint)

    @staticmethod
    def _shaped(settings: ScheduleSettings) -> bool:
        """Whether further keys give the cosine a shape of its own."""
        own = settings.cosine_min_lr_ratio is not None or bool(settings.lr_quadratic_warmup)
        return own and settings.lr_scheduler == "cosine"

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the schedule slot."""
        plan.schedule.fill(self._make, by=self.name)
        if self.cfg[ScheduleSettings].lr_scheduler in MEASURED and not self.cfg[Cadence].metric_for_best_model:
            plan.args.fill(by=self.name, metric_for_best_model="loss")

    def _make(self, optimizer: Optimizer, steps: int) -> Any:
        from torch.optim.lr_scheduler import LambdaLR
        from transformers import get_scheduler

        settings = self.cfg[ScheduleSettings]
        name, warmup, minimum = settings.lr_scheduler, self.warmup(steps), settings.cosine_min_lr_ratio
        arguments = self.arguments()
        curve = own_curve(name, steps, warmup, minimum or 0.0, arguments)
        if self._shaped(settings):
            shaped = min_lr_cosine(steps, warmup, minimum or 0.0, settings.cosine_constant_lr_ratio or 1.0)
            curve = quadratic_warmup(steps, warmup) if settings.lr_quadratic_warmup else shaped
        if curve is not None:
            return LambdaLR(optimizer, curve)
        # Some divide by the steps after the warm-up, also behind the last step of a run that has none.
        total = max(steps, warmup + 1)
        return get_scheduler(
            name, optimizer, num_warmup_steps=warmup, num_training_steps=total, scheduler_specific_kwargs=arguments
        )

    def arguments(self) -> dict[str, Any]:
        """``lr_scheduler_kwargs`` as values of their types."""
        settings = self.cfg[ScheduleSettings]
        known = ARGUMENTS[settings.lr_scheduler]
        given = settings.lr_scheduler_kwargs or {}
        found = {key: _coerce(key, value, known[key]) for key, value in given.items() if key in known}
        if settings.lr_div_factor is not None:
            found["div_factor"] = settings.lr_div_factor
        if settings.lr_scheduler == "greedy":
            # The library's own bounds, 0.001 and 1, are above the rates of fine-tuning: it would jump to the lower one.
            found = {"min_lr": 0.0, "max_lr": 10 * float(self.cfg.value("learning_rate") or 0.1), **found}
        return found

    def warmup(self, steps: int) -> int:
        """Warm-up steps of a run of ``steps`` steps."""
        settings = self.cfg[ScheduleSettings]
        given, ratio = settings.warmup_steps, settings.warmup_ratio
        if given is not None:
            found = math.ceil(steps * given) if given < 1 else int(given)
        elif ratio is not None:
            found = math.ceil(steps * ratio)
        else:
            found = min(int(0.03 * steps), 100)
        return 2 if found == 1 else found


def _coerce(key: str, value: Any, kind: type) -> Any:
    """An argument as a value of its type; YAML reads ``1e-7`` as a text."""
    if kind is str:
        if value not in CHOICES[key]:
            raise ValueError(f"{key} must be {' or '.join(CHOICES[key])}, not {value!r}")
        return value
    if kind is bool and isinstance(value, bool):
        return value
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if kind is bool or isinstance(value, bool) or not math.isfinite(number) or (kind is int and number != int(number)):
        raise ValueError(f"{key} must be {_KINDS[kind]}, not {value!r}")
    return kind(number)


_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
