"""Supervised fine-tuning: cross-entropy on the trained tokens."""

from __future__ import annotations

from typing import Any

from newt.config.section import Config
from newt.extend import DataPlan, LossFn, Method, TrainPlan


class Sft(Method):
    """The default method."""

    name = "sft"
    rows = "supervised"

    @classmethod
    def selected(cls, cfg: Config) -> bool:
        """Unless another method is asked for."""
        return True

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the loss slot."""
        plan.loss.fill(_loss(plan), by=self.name)

    def trainer(self, plan: TrainPlan, data_plan: DataPlan, loaded: Any, datasets: Any) -> Any:
        """Newt's own trainer, as it is."""
        from newt.training.build import build_trainer

        return build_trainer(plan, data_plan, loaded, datasets)


def _loss(plan: TrainPlan) -> LossFn:
    def loss(model: Any, batch: Any, num_items: Any) -> Any:
        from newt.losses.causal import causal_loss

        return (plan.cross_entropy.get() or causal_loss)(model, batch, num_items)

    return loss
