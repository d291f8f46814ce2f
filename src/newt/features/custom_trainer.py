"""A trainer class of the user's own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class CustomTrainerSettings(Section):
    """The key of a trainer of the user's own."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    trainer_cls: str | None = None
    """Dotted name of a trainer class."""


class CustomTrainer(Feature):
    """Uses that class."""

    name = "custom trainer"
    Settings = (CustomTrainerSettings,)
    off = "trainer_cls is not set"
    switches = ("trainer_cls",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when a class is named."""
        return cfg[CustomTrainerSettings].trainer_cls is not None

    def check(self) -> Iterable[Problem]:
        """It must be the name of a class in a module."""
        name = self.cfg[CustomTrainerSettings].trainer_cls or ""
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", name):
            yield self.problem("trainer_cls", f"{name!r} is not a dotted name.", "For example my_package.MyTrainer.")
