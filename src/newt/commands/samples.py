"""Held-out prompts that are answered before and after training, for the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from newt.data.prepare import Datasets

FILE = "samples.json"
LONGEST_ANSWER = 64


class Samples:
    """Prompts from held-out rows (training rows if there are none) with their answers.

    Args:
        output_dir: where ``samples.json`` is kept; a resumed run finds its first answers there.
        datasets: token rows; a row's prompt is everything before its first trained token.
        tokenizer: decodes prompts and references.
        count: how many prompts.
    """

    def __init__(self, output_dir: Path, datasets: Datasets, tokenizer: Any, count: int) -> None:
        self.path = output_dir / FILE
        self.tokenizer = tokenizer
        rows = datasets.eval if datasets.eval is not None else datasets.train
        self.prompts = [ids for ids in (_prompt(rows[n]) for n in range(min(4 * count, len(rows)))) if ids][:count]
        if self.path.is_file():
            self.samples = json.loads(self.path.read_text(encoding="utf-8"))
        else:
            self.samples = [self._text(prompt, reference) for prompt, reference in self.prompts]

    def answer(self, model: Any, when: str) -> None:
        """Let the model answer every prompt greedily, and store the answers as ``before`` or ``after``."""
        from newt.models.generate import complete
        from newt.support.files import write_atomically

        if len(self.samples) != len(self.prompts) or all(when in sample for sample in self.samples):
            return
        training = model.training
        model.eval()
        for sample, (prompt, _) in zip(self.samples, self.prompts, strict=True):
            sample[when] = complete(model, self.tokenizer, prompt, max_new_tokens=LONGEST_ANSWER, temperature=0.0)
        model.train(training)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(self.samples, indent=1, ensure_ascii=False))

    def _text(self, prompt: list[int], reference: list[int]) -> dict[str, str]:
        decode = self.tokenizer.decode
        return {"prompt": decode(prompt), "reference": decode(reference, skip_special_tokens=True)}


def _prompt(row: dict[str, Any]) -> tuple[list[int], list[int]] | None:
    labels = row["labels"].tolist()
    trained = [position for position, label in enumerate(labels) if label != -100]
    if not trained or trained[0] == 0:
        return None
    begin = trained[0]
    end = next((position for position in range(begin, len(labels)) if labels[position] == -100), len(labels))
    ids = row["input_ids"].tolist()
    return ids[:begin], ids[begin:end]
