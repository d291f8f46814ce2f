"""Evaluation of generated answers against the expected ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from newt.config.core import Batch, Data
from newt.config.section import Config, Problem, Section
from newt.extend import Feature, TrainPlan

DEFAULT = ("sacrebleu", "ter", "chrf")


class CausalLmEvalSettings(Section):
    """Keys of this evaluation."""

    do_causal_lm_eval: bool | None = None
    """Generate answers for the evaluation rows and compare them."""
    eval_causal_lm_metrics: tuple[Literal["sacrebleu", "comet", "ter", "chrf", "perplexity"], ...] | None = None
    """How they are compared; perplexity needs no answers. Default: sacrebleu, ter, chrf."""


class CausalLmEval(Feature):
    """Adds the metrics."""

    name = "causal LM evaluation"
    Settings = (CausalLmEvalSettings,)
    off = "do_causal_lm_eval is not on"
    switches = ("do_causal_lm_eval",)

    @classmethod
    def active(cls, cfg: Config) -> bool:
        """On when the key is."""
        return bool(cfg[CausalLmEvalSettings].do_causal_lm_eval)

    def check(self) -> Iterable[Problem]:
        """It needs evaluation rows, each for itself."""
        packed = self.cfg.value("eval_sample_packing")
        if self.cfg.value("sample_packing") if packed is None else packed:
            keys = ("do_causal_lm_eval", "eval_sample_packing", "sample_packing")
            yield self.problem(keys, "needs rows that are not packed.", "Set eval_sample_packing: false.")
        if not self.cfg[Data].has_eval:
            yield self.problem("do_causal_lm_eval", "there is nothing to evaluate.", "Set val_set_size.")
        if "comet" in self.metrics:
            message = "comet cannot be installed beside Newt: its package unbabel-comet needs transformers below 5."
            hint = "Use sacrebleu, chrf, ter or perplexity. In a venv of its own it can score generations.jsonl."
            yield self.problem("eval_causal_lm_metrics", message, hint, kind="unsupported")
        if self.facts.known and "sacrebleu" not in self.facts.packages and set(self.metrics) - {"perplexity"}:
            hint = "Install it: pip install 'newt-tune[eval]'; or set eval_causal_lm_metrics: [perplexity]."
            yield self.problem("do_causal_lm_eval", "needs the package sacrebleu.", hint)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return self.cfg[CausalLmEvalSettings].eval_causal_lm_metrics or DEFAULT

    def plan_train(self, plan: TrainPlan) -> None:
        """Add the evaluation."""
        made: list[Any] = []

        def evaluate(trainer: Any) -> dict[str, float]:
            from newt.training.causal_lm import CausalLm

            if not made:
                longest = self.cfg.value("eval_max_new_tokens") or 128
                made.append(CausalLm(self.metrics, longest, self.cfg[Batch].sequence_len))
            found: dict[str, float] = made[0](trainer)
            return found

        plan.evaluations.append(evaluate)
