"""Stop when evaluation no longer improves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import PositiveInt

from newt.config.core import Cadence, Data
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan


class EarlyStoppingSettings(Section):
    """The key of early stopping."""

    early_stopping_patience: PositiveInt | None = None
    """Stop after this many evaluations in a row without a better ``metric_for_best_model`` (default eval_loss)."""


class EarlyStopping(Feature):
    """Watches the metric."""

    name = "early stopping"
    Settings = (EarlyStoppingSettings,)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the patience is given."""
        return cfg[EarlyStoppingSettings].early_stopping_patience is not None

    def check(self) -> Iterable[Problem]:
        """There are evaluations, and a checkpoint for each that may be the best."""
        key, cadence = "early_stopping_patience", self.cfg[Cadence]
        if not self.cfg[Data].has_eval or cadence.eval_strategy == "no":
            yield self.problem(key, "there is nothing to evaluate.", "Set val_set_size, and eval_steps.")
        save, evaluate = cadence.save_steps, cadence.eval_steps
        if save and evaluate and save >= 1 and evaluate >= 1 and save % evaluate:
            yield self.problem(("save_steps", key), f"must be a multiple of eval_steps with {key}.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the callback."""
        plan.callbacks.append(self._callback)
        cadence = self.cfg[Cadence]
        metric = cadence.metric_for_best_model or "eval_loss"
        better = "loss" not in metric if cadence.greater_is_better is None else cadence.greater_is_better
        plan.args.fill(by=self.name, metric_for_best_model=metric, greater_is_better=better)

    def _callback(self) -> Any:
        from newt.training.callbacks.early_stopping import EarlyStopping as Callback

        return Callback(self.cfg[EarlyStoppingSettings].early_stopping_patience)
