"""Continued pretraining on a stream of texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import Field, SerializeAsAny

from newt.config.core import Batch, Data, Dataset, RunControl
from newt.config.section import Config, Problem, Section
from newt.extend import DataPlan, LossFn, Method, TrainPlan

if TYPE_CHECKING:
    import numpy as np


class PretrainSettings(Section):
    """Keys of pretraining."""

    pretraining_dataset: tuple[SerializeAsAny[Dataset], ...] | None = Field(default=None, min_length=1)
    """Texts that are streamed: a list of entries, one entry, or just a path."""
    pretrain_multipack_attn: bool = True
    """With ``sample_packing``: texts in one sequence do not see each other."""
    pretraining_sample_concatenation: bool | None = None
    """Without packing: join texts to full sequences instead of padding each."""

    def check(self, cfg: Config) -> Iterable[Problem]:
        """One source of training data, of a length that is said, and a stream that is asked for."""
        if self.pretraining_dataset is None:
            return
        if cfg[Data].datasets is not None:
            yield cfg.problem(("pretraining_dataset", "datasets"), "cannot be used with datasets.", "Remove one.")
        if cfg.value("streaming") is False:
            yield cfg.problem(("streaming", "pretraining_dataset"), "pretraining_dataset is always streamed.")
        elif not cfg.value("streaming"):
            message = "is streamed; say so, since one day it may be read whole."
            yield cfg.problem("pretraining_dataset", message, "Set streaming: true.", kind="warning")
        if cfg.value("sample_packing") and self.pretraining_sample_concatenation:
            keys = ("pretraining_sample_concatenation", "sample_packing")
            yield cfg.problem(keys, "cannot be used with sample_packing.", "Remove one.")
        if cfg[RunControl].max_steps is None:
            yield cfg.problem(("max_steps", "pretraining_dataset"), "is missing: a stream has no known length.")


class Pretrain(Method):
    """The next token of every text."""

    name = "pretrain"
    Settings = (PretrainSettings,)
    off = "pretraining_dataset is not set"
    switches = ("pretraining_dataset", "pretrain_multipack_attn")

    @classmethod
    def selected(cls, cfg: Config) -> bool:
        """When there are texts to stream."""
        return cfg[PretrainSettings].pretraining_dataset is not None

    def plan_data(self, plan: DataPlan) -> None:
        """Say how the texts of one sequence stand beside each other."""
        settings = self.cfg[PretrainSettings]
        if settings.pretraining_sample_concatenation:
            plan.pack.fill(Concatenation(self.cfg[Batch].sequence_len), by=self.name)
            plan.join.fill(True, by=self.name)
        elif self.cfg.value("sample_packing") and not settings.pretrain_multipack_attn:
            plan.join.fill(False, by=self.name)

    def plan_train(self, plan: TrainPlan) -> None:
        """Fill the loss slot."""
        plan.loss.fill(_loss(plan), by=self.name)

    def trainer(self, plan: TrainPlan, data_plan: DataPlan, loaded: Any, datasets: Any) -> Any:
        """Newt's own trainer, as it is."""
        from newt.training.build import build_trainer

        return build_trainer(plan, data_plan, loaded, datasets)


class Concatenation:
    """Packs texts in their order, with a padding token behind each, until a sequence is full."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    def __call__(self, lengths: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (order, offsets) as a packer does; the seed has no say."""
        from newt.data.pack import sequential

        return sequential((lengths + 1).clip(max=self.capacity), self.capacity)


def _loss(plan: TrainPlan) -> LossFn:
    def loss(model: Any, batch: Any, num_items: Any) -> Any:
        from newt.losses.causal import causal_loss

        return (plan.cross_entropy.get() or causal_loss)(model, batch, num_items)

    return loss
