"""Evaluation of generated answers against the expected ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

from newt.config.core import Data
from newt.config.section import Config, Problem, Section
from newt.extend import Feature


class CausalLmEvalSettings(Section):
    """Keys of this evaluation."""

    coming: ClassVar[frozenset[str]] = frozenset({"do_causal_lm_eval"})

    do_causal_lm_eval: bool | None = None
    """Generate answers for the evaluation rows and compare them."""
    eval_causal_lm_metrics: tuple[Literal["sacrebleu", "comet", "ter", "chrf", "perplexity"], ...] | None = None
    """How they are compared. Default: sacrebleu, comet, ter, chrf."""


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
