"""Answers that are generated during training, to look at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt

from newt.config.core import Data
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan


class GenerationSettings(Section):
    """Keys of samples."""

    generate_samples: bool = False
    """Generate answers at each evaluation."""
    num_generation_samples: PositiveInt = 3
    """How many."""
    generation_max_new_tokens: PositiveInt = 50
    """Longest answer in tokens."""
    generation_temperature: float = Field(default=0.7, ge=0)
    """Temperature."""
    generation_top_p: float | None = Field(default=None, gt=0, le=1)
    """Only the most likely tokens that make up this probability."""
    generation_top_k: NonNegativeInt | None = None
    """Only this many most likely tokens."""
    generation_prompt_ratio: float = Field(default=0.5, gt=0, lt=1)
    """Share of a row without turns that is the prompt."""
    generation_do_sample: bool = True
    """Draw tokens instead of taking the most likely one."""
    eval_table_size: NonNegativeInt = 0
    """Older: rows of a table of predictions for the tracker."""
    eval_max_new_tokens: PositiveInt = 128
    """Older: longest prediction in that table."""


class GenerationSamples(Feature):
    """Generates them."""

    name = "generation samples"
    Settings = (GenerationSettings,)
    off = "generate_samples is not on"
    switches = ("generate_samples", "eval_table_size", "eval_max_new_tokens")

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On with either of the two switches."""
        return cfg[GenerationSettings].generate_samples or cfg[GenerationSettings].eval_table_size > 0

    def check(self) -> Iterable[Problem]:
        """There are evaluations; the older table needs rows that are not packed."""
        settings = self.cfg[GenerationSettings]
        if not self.cfg[Data].has_eval:
            key = "generate_samples" if settings.generate_samples else "eval_table_size"
            message = "answers are generated at evaluations, and there is nothing to evaluate."
            yield self.problem(key, message, "Set val_set_size or test_datasets.")
        if settings.eval_table_size:
            hint = "Use generate_samples: true and num_generation_samples."
            yield self.problem("eval_table_size", "is an older key.", hint, kind="warning")
            packed = self.cfg.value("eval_sample_packing")
            if self.cfg.value("sample_packing") if packed is None else packed:
                keys = ("eval_table_size", "eval_sample_packing", "sample_packing")
                yield self.problem(keys, "needs rows that are not packed.", "Set eval_sample_packing: false.")

    def plan_train(self, plan: TrainPlan) -> None:
        """Add what is asked for."""
        settings = self.cfg[GenerationSettings]
        if settings.generate_samples:
            drawn = settings.generation_do_sample
            self._add(
                plan,
                kind="generation_samples",
                count=settings.num_generation_samples,
                max_new_tokens=settings.generation_max_new_tokens,
                temperature=settings.generation_temperature if drawn else 0.0,
                top_p=settings.generation_top_p or 1.0,
                top_k=settings.generation_top_k or 0,
                prompt_ratio=settings.generation_prompt_ratio,
            )
        if settings.eval_table_size:
            longest = settings.eval_max_new_tokens
            self._add(plan, kind="eval_predictions", count=settings.eval_table_size, max_new_tokens=longest)

    def _add(self, plan: TrainPlan, **wanted: Any) -> None:
        made: list[Any] = []

        def evaluate(trainer: Any) -> dict[str, float]:
            from newt.training.generations import Generations, Wanted

            if not made:
                made.append(Generations(Wanted(**wanted)))
            found: dict[str, float] = made[0](trainer)
            return found

        plan.evaluations.append(evaluate)
