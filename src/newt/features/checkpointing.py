"""Gradient checkpointing: recompute activations in the backward pass instead of keeping them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan


class CheckpointingSettings(Section):
    """Keys of gradient checkpointing."""

    gradient_checkpointing: bool | Literal["offload", "offload_disk"] = False
    """Keep only each layer's input and compute the rest again in the backward pass: less memory, more time. ``offload``
    and ``offload_disk`` also set ``activation_offloading`` to ``true`` and ``disk``."""
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
        """The reentrant form needs care."""
        if (self.cfg[CheckpointingSettings].gradient_checkpointing_kwargs or {}).get("use_reentrant"):
            yield from self._check_reentrant()

    def _check_reentrant(self) -> Iterable[Problem]:
        """Reentrant checkpointing loses gradients when a layer's input needs none, and keeps what it should not."""
        key = "gradient_checkpointing_kwargs.use_reentrant"
        if self.cfg.value("unfrozen_parameters"):
            message = "must be false with unfrozen_parameters: frozen layers would cut off the gradient."
            yield self.problem((key, "unfrozen_parameters"), message)
        if (self.facts.model_type or "").startswith("gemma4"):
            yield self.problem(key, "must be false for Gemma 4: its layers share keys and values.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Set the trainer's argument."""
        if self.cfg.value("selective_checkpointing"):
            return  # which switches it on itself
        kwargs = self.cfg[CheckpointingSettings].gradient_checkpointing_kwargs or {}
        plan.args.fill(
            by=self.name,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False, **kwargs},
        )
