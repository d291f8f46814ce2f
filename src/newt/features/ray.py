"""Training on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from pydantic import PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class RaySettings(Section):
    """Keys of Ray."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_ray: bool = False
    """Let Ray Train start the processes."""
    ray_run_name: str | None = None
    """Name of the run on the cluster."""
    ray_num_workers: PositiveInt = 1
    """Processes."""
    resources_per_worker: dict[str, float] = {"GPU": 1}
    """What each of them needs, such as ``GPU: 1`` or ``accelerator_type:L40S: 0.001``."""


class Ray(Feature):
    """Starts the run through Ray."""

    name = "ray"
    Settings = (RaySettings,)
    off = "use_ray is not on"
    switches = ("use_ray",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return cfg[RaySettings].use_ray

    def check(self) -> Iterable[Problem]:
        """The package."""
        if self.facts.known and "ray" not in self.facts.packages:
            yield self.problem("use_ray", "needs the package ray.", "Install it.")
