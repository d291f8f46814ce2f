"""Tracking with TensorBoard."""

from __future__ import annotations

from typing import ClassVar

from newt.config.section import Config, Section
from newt.extend import Feature


class TensorboardSettings(Section):
    """The key of TensorBoard."""

    coming: ClassVar[frozenset[str]] = frozenset({"*"})

    use_tensorboard: bool | None = None
    """Write event files into ``output_dir``."""


class Tensorboard(Feature):
    """Writes them."""

    name = "tensorboard"
    Settings = (TensorboardSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[TensorboardSettings].use_tensorboard)
