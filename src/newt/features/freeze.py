"""Freezing: train only the parameters, or only the rows of them, that are named."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, LoadPlan

RANGE = re.compile(r"\[(?:(?P<row>\d+)|(?P<start>\d*):(?P<stop>\d*))\]$")


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
        if any(RANGE.search(pattern) for pattern in patterns) and self.cfg.value("weight_decay"):
            yield self.problem(
                ("unfrozen_parameters", "weight_decay"),
                "weight decay also shrinks the rows that are not named.",
                "Set weight_decay: 0.",
                kind="warning",
            )

    def plan_load(self, plan: LoadPlan) -> None:
        """Freeze once the model is complete."""
        plan.prepare.append(self.freeze)

    def freeze(self, model: Any) -> None:
        """Freeze the model's parameters in place."""
        from newt.models.freezing import freeze_media, train_only
        from newt.support.log import note

        settings = self.cfg[FreezeSettings]
        if settings.unfrozen_parameters:
            train_only(model, [split(pattern) for pattern in settings.unfrozen_parameters])
        if settings.freeze_mm_modules:
            note(f"freeze_mm_modules: {freeze_media(model):,} parameters that read images or sound are frozen")


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
    expression, rows = split(pattern)
    try:
        re.compile(expression)
    except re.error as error:
        return f"{expression!r} is not a regular expression: {error}."
    if rows and rows[1] is not None and rows[0] >= rows[1]:
        return f"the range of rows in {pattern!r} is empty."
    return ""
