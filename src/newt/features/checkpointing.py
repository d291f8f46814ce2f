"""Gradient checkpointing: recompute activations in the backward pass instead of keeping them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan


class CheckpointingSettings(Section):
    """Keys of gradient checkpointing."""

    gradient_checkpointing: bool | Literal["offload", "offload_disk"] = False
    """Keep only each layer's input and compute the rest again in the backward pass: less memory, more time."""
    gradient_checkpointing_kwargs: dict[str, Any] | None = None
    """Arguments of ``torch.utils.checkpoint``. Default: ``use_reentrant: false``, which works with frozen inputs."""


class Checkpointing(Feature):
    """Switches it on through the trainer's own argument."""

    name = "gradient checkpointing"
    Settings = (CheckpointingSettings,)
    off = "gradient_checkpointing is not on"
    switches = ("gradient_checkpointing",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[CheckpointingSettings].gradient_checkpointing)

    def check(self) -> Iterable[Problem]:
        """Offloading comes later."""
        value = self.cfg[CheckpointingSettings].gradient_checkpointing
        if isinstance(value, str):
            yield self.not_yet("gradient_checkpointing", value, "Use gradient_checkpointing: true.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Set the trainer's argument."""
        kwargs = self.cfg[CheckpointingSettings].gradient_checkpointing_kwargs or {}
        plan.args.fill(
            by=self.name,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False, **kwargs},
        )
