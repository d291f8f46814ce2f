"""Checkpoints on demand: a file asks for one."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import PositiveInt

from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class DynamicCheckpointConfig(Section):
    """``dynamic_checkpoint``."""

    enabled: bool = False
    """Look for the file."""
    check_interval: PositiveInt = 10
    """Every so many steps."""
    trigger_file_path: str = ""
    """The file; it is deleted when the checkpoint is written. Default: one in ``output_dir``."""


class DynamicCheckpointSettings(Section):
    """The key of checkpoints on demand."""

    dynamic_checkpoint: DynamicCheckpointConfig | None = None
    """Write a checkpoint whenever a certain file appears."""


class DynamicCheckpoint(Feature):
    """Looks for the file."""

    name = "dynamic checkpoint"
    Settings = (DynamicCheckpointSettings,)
    off = "dynamic_checkpoint.enabled is not on"
    switches = ("dynamic_checkpoint",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when it is enabled."""
        block = cfg[DynamicCheckpointSettings].dynamic_checkpoint
        return block is not None and block.enabled

    def check(self) -> Iterable[Problem]:
        """It is not built yet."""
        yield self.not_yet("dynamic_checkpoint.enabled", "true")
