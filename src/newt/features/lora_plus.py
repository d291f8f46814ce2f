"""LoRA+: the B matrices of an adapter learn faster than its A matrices. https://arxiv.org/abs/2402.12354"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

if TYPE_CHECKING:
    from torch import nn


class LoraPlusSettings(Section):
    """Keys of LoRA+."""

    loraplus_lr_ratio: float | None = Field(default=None, gt=0)
    """Learning rate of the B matrices, as a multiple of ``learning_rate``. 16 is a good start."""
    loraplus_lr_embedding: float = Field(default=1e-6, gt=0)
    """Learning rate of embeddings that have an adapter."""


class LoraPlus(Feature):
    """Parameter groups with learning rates of their own."""

    name = "loraplus"
    Settings = (LoraPlusSettings,)
    off = "loraplus_lr_ratio is not set"
    switches = ("loraplus_lr_ratio",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when there is a ratio."""
        return cfg[LoraPlusSettings].loraplus_lr_ratio is not None

    def check(self) -> Iterable[Problem]:
        """An adapter; that ``lr_groups`` is another rule, its own Part says."""
        if not self.cfg.value("adapter"):
            yield self.problem(("loraplus_lr_ratio", "adapter"), "needs an adapter.", "Set adapter: lora.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the rule for parameter groups."""
        plan.groups.fill(self.groups, by=self.name)

    def groups(self, model: nn.Module, decaying: Collection[str]) -> list[dict[str, Any]]:
        """The parameter groups: B matrices (and vectors) learn faster, adapted embeddings at a rate of their own.

        Args:
            model: the model with its adapter.
            decaying: names of the parameters that weight decay shrinks.
        """
        rate, decay = self.cfg.value("learning_rate"), self.cfg.value("weight_decay") or 0.0
        settings = self.cfg[LoraPlusSettings]
        fast = rate * (settings.loraplus_lr_ratio or 1.0)
        found: dict[tuple[str, bool], list[Any]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                found.setdefault((_kind(name, parameter), name in decaying), []).append(parameter)
        rates = {"A": rate, "embedding": settings.loraplus_lr_embedding, "B": fast}
        return [
            {"name": name if decays else f"{name} without decay", "params": found[name, decays], "lr": rates[name],
             "weight_decay": decay if decays else 0.0}
            for name in rates
            for decays in (True, False)
            if (name, decays) in found
        ]  # fmt: skip


def _kind(name: str, parameter: Any) -> str:
    if "lora_embedding" in name:
        return "embedding"
    return "B" if "lora_B" in name or parameter.ndim == 1 else "A"
