"""Expert parallelism: the experts of a layer live on different devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import PositiveInt

from newt.config.parallel import Mesh
from newt.config.plugins import PluginSection
from newt.config.section import Config, Problem
from newt.extend import Feature


class ExpertParallelSettings(PluginSection):
    """Keys of expert parallelism."""

    plugin = "ExpertParallelPlugin"
    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    expert_parallel_size: PositiveInt | None = None
    """Devices over which the experts are spread."""
    expert_parallel_backend: str | None = None
    """What moves the tokens. Default: deep_ep."""


class ExpertParallel(Feature):
    """Spreads the experts."""

    name = "expert parallelism"
    Settings = (ExpertParallelSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the experts have more than one device."""
        return (cfg[ExpertParallelSettings].expert_parallel_size or 1) > 1

    def check(self) -> Iterable[Problem]:
        """Not together with tensor or context parallelism."""
        mesh = self.cfg[Mesh]
        for key, size in (("tensor_parallel_size", mesh.tensor), ("context_parallel_size", mesh.context)):
            if size > 1:
                yield self.problem(("expert_parallel_size", key), f"cannot be used with {key}.", "Remove one.")
