"""Answers that a model gives while it is trained, to look at."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from newt.models.generate import complete
from newt.support.files import write_atomically
from newt.support.log import warn
from newt.training.callbacks.tracking import show_table
from newt.training.prompts import Prompt, first_prompt, held_out, split_text

FILE = "generations.jsonl"


@dataclass(frozen=True)
class Wanted:
    """Which answers.

    Attributes:
        kind: name of their table.
        count: how many.
        max_new_tokens: longest answer.
        temperature: 0: always the most likely token.
        top_p: only the most likely tokens that make up this probability.
        top_k: only so many of the most likely tokens; 0: all.
        prompt_ratio: share of a row without turns that is the prompt.
    """

    kind: str
    count: int
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    prompt_ratio: float = 0.5


class Generations:
    """An evaluation that finds no number, but answers: in ``generations.jsonl`` and in the trackers."""

    def __init__(self, wanted: Wanted) -> None:
        """Keep what is wanted."""
        self.wanted = wanted
        self.prompts: list[Prompt] | None = None

    def __call__(self, trainer: Any) -> dict[str, float]:
        """Answer every prompt. All ranks do, because a sharded model needs them; the first one writes."""
        if self.prompts is None:
            self.prompts = find_prompts(trainer, self.wanted)
            self._begin(trainer)
        rows = [self._answer(trainer, number, prompt) for number, prompt in enumerate(self.prompts)]
        if trainer.args.should_save and rows:
            self._write(Path(trainer.args.output_dir), trainer.state.global_step, rows)
            show_table(trainer, self.wanted.kind, rows)
        return {}

    def _answer(self, trainer: Any, number: int, prompt: Prompt) -> dict[str, str]:
        wanted, tokenizer = self.wanted, trainer.processing_class
        answer = complete(
            trainer.model,
            tokenizer,
            prompt[0],
            seed=trainer.args.seed + number,
            max_new_tokens=wanted.max_new_tokens,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            top_k=wanted.top_k,
        )
        return {
            "prompt": tokenizer.decode(prompt[0]),
            "answer": answer,
            "reference": tokenizer.decode(prompt[1], skip_special_tokens=True),
        }

    def _begin(self, trainer: Any) -> None:
        """Keep the answers of the steps before this one: those after come again."""
        path = Path(trainer.args.output_dir) / FILE
        if not trainer.args.should_save or not path.is_file():
            return
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                found = json.loads(line)
            except ValueError:  # half a line of a killed run
                continue
            if found["step"] < trainer.state.global_step or found["kind"] != self.wanted.kind:
                kept.append(line)
        write_atomically(path, "".join(kept))

    def _write(self, output_dir: Path, step: int, rows: list[dict[str, str]]) -> None:
        output_dir.mkdir(parents=True, exist_ok=True)
        with (output_dir / FILE).open("a", encoding="utf-8") as file:
            for row in rows:
                line = {"step": step, "kind": self.wanted.kind, **row}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def find_prompts(trainer: Any, wanted: Wanted) -> list[Prompt]:
    """As many prompts as wanted, of the first rows that have one."""
    rows = held_out(trainer)
    found: list[Prompt] = []
    for number in range(min(len(rows), 20 * wanted.count)):
        row = rows[number]
        prompt = first_prompt(row) or (split_text(row, wanted.prompt_ratio) if "labels" in row else None)
        if prompt is not None:
            found.append(prompt)
        if len(found) == wanted.count:
            break
    if not found:
        warn(f"{wanted.kind}: no row has a prompt to answer.")
    return found
