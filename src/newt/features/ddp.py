"""Data parallel training on several devices: options of torch's DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import PositiveInt

from newt.config.parallel import Deepspeed, Fsdp
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan
from newt.support import env


class DdpSettings(Section):
    """Keys of data parallel training."""

    ddp: bool | None = None
    """Accepted for compatibility: more than one process means data parallel training."""
    ddp_timeout: PositiveInt | None = None
    """Seconds that a process waits for the others. Default 1800."""
    ddp_bucket_cap_mb: PositiveInt | None = None
    """Size in MB of the pieces in which gradients are exchanged."""
    ddp_broadcast_buffers: bool | None = None
    """Send the first process's buffers to the others before each step."""
    ddp_find_unused_parameters: bool | None = None
    """Look for parameters that had no part in the loss."""


class Ddp(Feature):
    """Passes the options to the trainer."""

    name = "ddp"
    Settings = (DdpSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When one of them is set, or the time to wait for other processes by an environment variable."""
        given = (getattr(cfg[DdpSettings], key) for key in DdpSettings.model_fields)
        return env.nccl_timeout() is not None or any(value is not None for value in given)

    def check(self) -> Iterable[Problem]:
        """Another way to spread the run leaves nothing to do here."""
        if self.cfg[DdpSettings].ddp:
            for key in ("fsdp_config", "fsdp", "deepspeed"):
                if self.cfg.value(key):
                    yield self.problem(("ddp", key), f"cannot be used with {key}.", "Remove ddp.")
                    break

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the trainer's arguments."""
        settings = self.cfg[DdpSettings]
        given = {
            key: getattr(settings, key)
            for key in DdpSettings.model_fields
            if key != "ddp" and getattr(settings, key) is not None
        }
        if (seconds := env.nccl_timeout()) is not None:
            given.setdefault("ddp_timeout", seconds)
        if self.cfg[Fsdp].on or self.cfg[Deepspeed].deepspeed:
            given = {key: value for key, value in given.items() if key == "ddp_timeout"}
        plan.args.fill(by=self.name, **given)
