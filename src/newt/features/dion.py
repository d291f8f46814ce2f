"""The Dion optimizer: orthonormal updates of low rank for matrices."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from newt.config.section import Config, Section
from newt.extend import Feature


class DionSettings(Section):
    """Keys of Dion."""

    dion_lr: float | None = Field(default=None, gt=0)
    """Learning rate of the matrices; ``learning_rate`` is for the other parameters. Default: ``learning_rate``."""
    dion_momentum: float | None = Field(default=None, ge=0, lt=1)
    """Share of the momentum that is kept. Default 0.95."""
    dion_rank_fraction: float = Field(default=1.0, gt=0, le=1)
    """Rank of an update as a share of the full rank."""
    dion_rank_multiple_of: PositiveInt = 1
    """The rank is rounded up to a multiple of this."""


class Dion(Feature):
    """Holds its keys; the optimizer's Part makes it."""

    name = "dion"
    Settings = (DionSettings,)
    off = "optimizer is not dion"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When the optimizer is Dion."""
        return bool(cfg.value("optimizer") == "dion")
