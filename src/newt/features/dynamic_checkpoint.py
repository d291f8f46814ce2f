"""Checkpoints on demand: a file asks for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from newt.config.core import RunControl
from newt.config.section import Config, Section
from newt.extend import Feature, TrainPlan

NAMES = ("newt_checkpoint.save", "axolotl_checkpoint.save")
"""Files in ``output_dir`` that ask for a checkpoint."""


class DynamicCheckpointConfig(Section):
    """``dynamic_checkpoint``."""

    enabled: bool = False
    """Look for the file."""
    check_interval: PositiveInt = 10
    """Every so many steps."""
    trigger_file_path: str = ""
    """The file; it is deleted when the checkpoint is written. A name alone stands for one in
    ``output_dir``. Default: ``newt_checkpoint.save`` there; ``axolotl_checkpoint.save`` does too."""


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

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the callback."""
        plan.callbacks.append(self._callback)

    def _callback(self) -> Any:
        from newt.training.callbacks.trigger import Trigger

        block = self.cfg[DynamicCheckpointSettings].dynamic_checkpoint
        assert block is not None
        names = (block.trigger_file_path,) if block.trigger_file_path else NAMES
        output_dir = Path(self.cfg[RunControl].output_dir).expanduser()
        return Trigger([output_dir / Path(name).expanduser() for name in names], block.check_interval)
