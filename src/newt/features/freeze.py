"""Freezing: train only the parameters, or only the rows of them, that are named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan, TrainPlan

RANGE = re.compile(r"\[(?:(?P<row>\d+)|(?P<start>\d*):(?P<stop>\d*))\]$")
NEGATIVE = re.compile(r"\[(-\d+|-\d+:-?\d*|\d*:-\d+)\]$")
SHARDING = ("fsdp", "fsdp_config", "deepspeed", "tensor_parallel_size")
"""Keys with which a process holds only a part of a parameter."""


class FreezeSettings(Section):
    """Keys of freezing."""

    unfrozen_parameters: tuple[str, ...] | None = None
    """Train only parameters whose name begins with a match of one of these regular expressions
    (``^model.embed_tokens.weight$``). ``[a:b]`` at the end: only these rows."""
    freeze_mm_modules: bool | None = None
    """Do not train the parts that read images and sound."""


class Freeze(Feature):
    """Freezes after the model is built and has its adapter."""

    name = "freeze"
    Settings = (FreezeSettings,)
    off = "nothing is frozen"
    switches = ("unfrozen_parameters", "freeze_mm_modules")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when one of the keys asks for something."""
        settings = cfg[FreezeSettings]
        return bool(settings.unfrozen_parameters or settings.freeze_mm_modules)

    def check(self) -> Iterable[Problem]:
        """Expressions that can be read, and no other rule for what is trained."""
        patterns = self.cfg[FreezeSettings].unfrozen_parameters or ()
        for number, pattern in enumerate(patterns):
            if wrong := what_is_wrong(pattern):
                yield self.problem(f"unfrozen_parameters.{number}", wrong)
        if not patterns:
            return
        if self.cfg.value("adapter"):
            yield self.problem(
                ("unfrozen_parameters", "adapter"),
                "would freeze the adapter.",
                "Remove it: whole modules are named in lora_modules_to_save.",
            )
        if self._has_rows:
            yield from self._check_rows()

    @property
    def _has_rows(self) -> bool:
        return any(RANGE.search(pattern) for pattern in self.cfg[FreezeSettings].unfrozen_parameters or ())

    def _check_rows(self) -> Iterable[Problem]:
        """Rows are put back after each step, where a parameter is whole and the optimizer keeps no other copy of it."""
        for key in SHARDING:
            if (self.cfg.value(key) or 1) != 1:
                message = f"rows of a parameter cannot be chosen with {key}, which cuts parameters into pieces."
                yield self.problem(("unfrozen_parameters", key), message, "Remove the ranges, or that key.")
        optimizer = str(self.cfg.value("optimizer"))
        if optimizer.startswith("schedule_free") and self.cfg.value("weight_decay"):
            message = f"{optimizer} with weight_decay also shrinks the rows that are not named."
            yield self.problem(("unfrozen_parameters", "weight_decay"), message, "Set weight_decay: 0.")

    def plan_load(self, plan: LoadPlan) -> None:
        """Freeze once the model is complete."""
        plan.prepare.append(self.freeze)

    def plan_train(self, plan: TrainPlan) -> None:
        """Rows that are not named stay as they are, whatever the optimizer does."""
        if self._has_rows:
            plan.callbacks.append(_frozen_rows)

    def freeze(self, model: Any) -> None:
        """Freeze the model's parameters in place."""
        from newt.models.freezing import freeze_media, train_only
        from newt.support.log import note

        settings = self.cfg[FreezeSettings]
        if settings.unfrozen_parameters:
            train_only(model, [split(pattern) for pattern in settings.unfrozen_parameters])
        if settings.freeze_mm_modules:
            note(f"freeze_mm_modules: {freeze_media(model):,} parameters that read images or sound are frozen")


def _frozen_rows() -> Any:
    from newt.training.callbacks.frozen_rows import FrozenRows

    return FrozenRows()


def split(pattern: str) -> tuple[str, tuple[int, int | None] | None]:
    """An expression and the rows behind it: ``w[2:5]`` -> ("w", (2, 5)), ``w[2:]`` -> ("w", (2, None))."""
    found = RANGE.search(pattern)
    if not found:
        return pattern, None
    rest = pattern[: found.start()]
    if found["row"]:
        return rest, (int(found["row"]), int(found["row"]) + 1)
    return rest, (int(found["start"] or 0), int(found["stop"]) if found["stop"] else None)


def what_is_wrong(pattern: str) -> str:
    """Why an expression cannot be used, or nothing."""
    if NEGATIVE.search(pattern):
        return f"rows are counted from 0, not from the end as in {pattern!r}."
    expression, rows = split(pattern)
    try:
        re.compile(expression)
    except re.error as error:
        return f"{expression!r} is not a regular expression: {error}."
    if rows and rows[1] is not None and rows[0] >= rows[1]:
        return f"the range of rows in {pattern!r} is empty."
    return ""
