"""The balancing loss of a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from newt.config.core import Model
from newt.config.section import Config, Problem
from newt.extend import Feature, LossFn, TrainPlan


class RouterLoss(Feature):
    """Adds it where the model's config has ``output_router_logits: true``."""

    name = "router loss"

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """Always: the model's config decides."""
        return True

    def wanted(self) -> bool:
        """Whether the config of the base model, with its overrides, asks for it."""
        model = {**(self.facts.model or {}), **(self.cfg[Model].overrides_of_model_config or {})}
        text: Mapping[str, Any] = model.get("text_config") or {}
        return bool(model.get("output_router_logits") or text.get("output_router_logits"))

    def check(self) -> Iterable[Problem]:
        """An explicit mask, which packed samples of some architectures need, is not one that the router loss reads."""
        if self.wanted() and self.facts.model_type == "gpt_oss" and self.cfg.value("sample_packing"):
            message = "the router's loss of gpt_oss models cannot be computed for packed rows."
            hint = "Set overrides_of_model_config: {output_router_logits: false}, or sample_packing: false."
            yield self.problem(("overrides_of_model_config", "sample_packing"), message, hint)

    def plan_train(self, plan: TrainPlan) -> None:
        """Wrap the loss."""
        if self.wanted():
            plan.loss.wrap(_with_router_loss, by=self.name)


def _with_router_loss(loss: LossFn) -> LossFn:
    from newt.losses.router import with_router_loss

    return with_router_loss(loss)
