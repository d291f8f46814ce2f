"""Learning rates of their own for some modules."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

if TYPE_CHECKING:
    from torch import nn


class LrGroup(Section):
    """One entry of ``lr_groups``."""

    name: str = Field()
    """Name in logs."""
    modules: tuple[str, ...] = Field(min_length=1)
    """Parts of parameter names; the first group that matches wins."""
    lr: float = Field(gt=0)
    """Peak learning rate."""


class LrGroupSettings(Section):
    """Keys of learning rates."""

    lr_groups: tuple[LrGroup, ...] | None = None
    """Groups of modules with their own learning rate."""
    embedding_lr: float | None = Field(default=None, gt=0)
    """Learning rate of embeddings and output layer."""
    embedding_lr_scale: float | None = Field(default=None, gt=0)
    """The same as a multiple of ``learning_rate``."""


class LrGroups(Feature):
    """Makes parameter groups."""

    name = "learning rate groups"
    Settings = (LrGroupSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """When one of the keys is set."""
        return any(getattr(cfg[LrGroupSettings], key) for key in LrGroupSettings.model_fields)

    def check(self) -> Iterable[Problem]:
        """One rule decides each parameter's rate."""
        settings = self.cfg[LrGroupSettings]
        if settings.embedding_lr is not None and settings.embedding_lr_scale is not None:
            yield self.problem(
                ("embedding_lr_scale", "embedding_lr"), "cannot be used with embedding_lr.", "Remove one."
            )
        for key in LrGroupSettings.model_fields:
            if getattr(settings, key) and self.cfg.value("loraplus_lr_ratio") is not None:
                keys = (key, "loraplus_lr_ratio")
                yield self.problem(keys, "cannot be used with loraplus_lr_ratio.", "Remove one.")
        names = [group.name for group in settings.lr_groups or ()]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield self.problem("lr_groups", f"two groups are called {name}.")
        if self.cfg.value("optimizer") == "polora":
            for key in LrGroupSettings.model_fields:
                if getattr(settings, key):
                    yield self.problem(key, "has no effect: polora sets its own rates.", "Remove it.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the rule for parameter groups; that of LoRA+ excludes it, which the check says."""
        if not plan.groups:
            plan.groups.fill(self.groups, by=self.name)

    def groups(self, model: nn.Module, decaying: Collection[str]) -> list[dict[str, Any]]:
        """The parameter groups.

        Args:
            model: the model.
            decaying: names of the parameters that weight decay shrinks.
        """
        from newt.training.groups import rated_groups

        settings = self.cfg[LrGroupSettings]
        rate = self.cfg.value("learning_rate")
        return rated_groups(
            model,
            decaying,
            rate=rate,
            decay=self.cfg.value("weight_decay") or 0.0,
            embedding_rate=settings.embedding_lr or rate * (settings.embedding_lr_scale or 1.0),
            modules={group.name: (group.modules, group.lr) for group in settings.lr_groups or ()},
        )
