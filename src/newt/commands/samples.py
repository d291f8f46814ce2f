"""Held-out prompts that are answered before and after training, for the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from newt.data.prepare import Datasets
    from newt.data.streamed import StreamedDatasets

FILE = "samples.json"
LONGEST_ANSWER = 64


class Samples:
    """Prompts from held-out rows (training rows if there are none) with their answers.

    Args:
        output_dir: where ``samples.json`` is kept; a resumed run finds its first answers there.
        datasets: gives examples; a row's prompt is everything before its first trained token.
        tokenizer: decodes prompts and references.
        count: how many prompts.
    """

    def __init__(self, output_dir: Path, datasets: Datasets | StreamedDatasets, tokenizer: Any, count: int) -> None:
        self.path = output_dir / FILE
        self.tokenizer = tokenizer
        from newt.training.prompts import first_prompt

        rows = datasets.examples
        self.prompts = [ids for ids in (first_prompt(rows[n]) for n in range(min(4 * count, len(rows)))) if ids][:count]
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
