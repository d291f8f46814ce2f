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
        """A model that can, and care for the reentrant form."""
        kind = self.facts.model_type or ""
        if kind == "mpt":
            yield self.problem("gradient_checkpointing", "MPT models cannot do it.", "Remove it.")
        if kind == "nemotron_h" and not self.cfg.value("sample_packing"):
            message = "needs sample_packing with Nemotron-H models."
            yield self.problem(("gradient_checkpointing", "sample_packing"), message, "Set one of them the other way.")
        kwargs = self.cfg[CheckpointingSettings].gradient_checkpointing_kwargs or {}
        if kwargs and self._is_replaced():
            message = "has no effect: with an adapter, activation_offloading: true takes the place of recomputation."
            yield self.problem("gradient_checkpointing_kwargs", message, "Remove it.", kind="warning")
        elif kwargs.get("use_reentrant"):
            yield from self._check_reentrant()

    def _is_replaced(self) -> bool:
        """Whether activations are moved to the CPU instead of computed again.

        With an adapter, little of what a layer computes is kept for the backward pass, so that moving it is faster.
        """
        moved = self.cfg[CheckpointingSettings].gradient_checkpointing == "offload"
        moved = moved or self.cfg.value("activation_offloading") is True
        return bool(moved and self.cfg.value("adapter") and not self.cfg.value("selective_checkpointing"))

    def _check_reentrant(self) -> Iterable[Problem]:
        """Reentrant checkpointing loses gradients when a layer's input needs none, and keeps what it should not."""
        key = "gradient_checkpointing_kwargs.use_reentrant"
        if self.cfg.value("unfrozen_parameters"):
            message = "must be false with unfrozen_parameters: frozen layers would cut off the gradient."
            yield self.problem((key, "unfrozen_parameters"), message)
        if (self.facts.model_type or "").startswith("gemma4"):
            yield self.problem(key, "must be false for Gemma 4: its layers share keys and values.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Set the trainer's argument, and watch the borders of layers."""
        if plan.loss and self._is_replaced():
            return  # the loss is wrapped by what moves the activations
        plan.callbacks.append(_borders)
        if self.cfg.value("selective_checkpointing"):
            return  # which switches it on itself
        kwargs = self.cfg[CheckpointingSettings].gradient_checkpointing_kwargs or {}
        plan.args.fill(
            by=self.name,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False, **kwargs},
        )


def _borders() -> Any:
    from newt.training.checkpointing import Borders

    return Borders()
