"""A trace of some steps: where time and memory go."""

from __future__ import annotations

from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from newt.config.section import Config, Section
from newt.extend import Feature


class ProfilerSettings(Section):
    """Keys of the profiler."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    profiler_steps: PositiveInt | None = None
    """Record this many steps (``profiler_trace.json``, and memory in ``snapshot.pickle``)."""
    profiler_steps_start: NonNegativeInt = 0
    """First of them."""


class Profiler(Feature):
    """Records them."""

    name = "profiler"
    Settings = (ProfilerSettings,)
    off = "profiler_steps is not set"
    switches = ("profiler_steps",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the number of steps is given."""
        return cfg[ProfilerSettings].profiler_steps is not None
