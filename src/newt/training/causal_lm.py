"""Answers to the evaluation rows, compared with the expected ones; and perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from newt.models.generate import complete
from newt.support.optional import require
from newt.training.prompts import prompts_of

STRIDE = 512
"""Tokens by which the window over a text moves on (https://huggingface.co/docs/transformers/perplexity)."""

COMPARED = ("sacrebleu", "chrf", "ter")


class CausalLm:
    """An evaluation by texts."""

    def __init__(self, metrics: Sequence[str], max_new_tokens: int, window: int) -> None:
        """Keep what is wanted.

        Args:
            metrics: names of :data:`COMPARED`, and ``perplexity``.
            max_new_tokens: longest answer.
            window: tokens that the model sees at once.
        """
        self.metrics, self.max_new_tokens, self.window = metrics, max_new_tokens, window

    def __call__(self, trainer: Any) -> dict[str, float]:
        """Value of each metric."""
        rows = [trainer.eval_dataset[number] for number in range(len(trainer.eval_dataset or ()))]
        found = {}
        compared = [name for name in self.metrics if name in COMPARED]
        if compared:
            found.update(compare(compared, *self._answers(trainer, rows)))
        if "perplexity" in self.metrics:
            ids = [row["input_ids"].tolist() for row in rows if "input_ids" in row]
            found["perplexity"] = perplexity(trainer.model, ids, self.window)
        return found

    def _answers(self, trainer: Any, rows: list[Any]) -> tuple[list[str], list[str]]:
        tokenizer = trainer.processing_class
        prompts = [prompt for row in rows for prompt in prompts_of(row)]
        options = {"max_new_tokens": self.max_new_tokens, "temperature": 0.0}
        answers = [complete(trainer.model, tokenizer, ids, **options) for ids, _ in prompts]
        return answers, [tokenizer.decode(ids, skip_special_tokens=True) for _, ids in prompts]


def compare(metrics: Sequence[str], answers: list[str], references: list[str]) -> dict[str, float]:
    """BLEU, chrF and TER of a corpus, between 0 and 100, as sacrebleu gives them; nan without texts.

    Raises:
        NewtError: sacrebleu is not installed.
    """
    if not answers:
        return dict.fromkeys(metrics, math.nan)
    sacrebleu = require("sacrebleu", extra="eval", used_by="do_causal_lm_eval")
    made = {"sacrebleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf, "ter": sacrebleu.corpus_ter}
    return {name: float(made[name](answers, [references]).score) for name in metrics}


def perplexity(model: Any, texts: Sequence[Sequence[int]], window: int) -> float:
    """exp of the mean negative log-likelihood of every token but the first of each text; nan without any.

    Args:
        model: in evaluation mode.
        texts: ids of each.
        window: longest input; a longer text is read in windows that move on by :data:`STRIDE`, or by the window.
    """
    total, count = 0.0, 0
    device = next(model.parameters()).device
    stride = min(STRIDE, window)
    for ids in texts:
        scored = 1
        for begin in range(0, len(ids), stride):
            end = min(begin + window, len(ids))
            if end <= scored:
                continue
            part = torch.tensor([ids[begin:end]], device=device)
            with torch.no_grad():
                logits = model(input_ids=part, use_cache=False).logits[0, :-1].float()
            new = end - scored  # the last tokens of the window: those before were scored with more in front of them
            losses = F.cross_entropy(logits, part[0, 1:], reduction="none")[-new:]
            total, count, scored = total + float(losses.double().sum()), count + new, end
    return math.exp(total / count) if count else math.nan
